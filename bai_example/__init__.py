"""A burned-area map from satellite scenes, computed on a claimed Dask cluster.

``python -m bai_example`` writes the map and its severity classes (two cloud-optimised GeoTIFFs), a
picture, and the STAC item that describes them; docs/bai.md says what it takes and gives.
``python -m bai_example.sample DIR`` writes a small pair of scenes to try it with.

How the data flows::

    search                     event and area  -> items: the least cloudy pair
    scenes                     items           -> scenes: which files, which scale and offset
    pair (grid, lazy)          scenes          -> a pair: all rasters on one grid, not yet read
    blocks (index, statistics) a pair          -> blocks, each computed on a worker as one task
    maps (cog, quicklook)      blocks          -> two COGs and a picture
    outputs, item              files           -> a folder or S3, with their STAC item

Importing the package imports nothing else.
"""
