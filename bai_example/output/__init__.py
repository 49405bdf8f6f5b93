"""What a run leaves: maps, picture and STAC item, in a folder or on S3."""
