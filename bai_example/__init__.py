"""A burned-area map from satellite scenes, computed on a claimed Dask cluster; see docs/bai.md.

How the data flows::

    search, scenes (access)    event and area -> items -> scenes: files, their scale and offset
    pair (rasters)             scenes -> a pair: all rasters on one grid, not yet read
    blocks (index)             a pair -> blocks, each computed on a worker as one task
    outputs, describe          blocks -> two COGs, a picture and a STAC item, in a folder or on S3
"""
