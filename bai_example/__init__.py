"""A burned-area map from satellite scenes, computed on a claimed Dask cluster.

``python -m bai_example`` writes the map and its severity classes (two cloud-optimised GeoTIFFs), a
picture, and the STAC item that describes them; docs/bai.md tells what it takes and gives.
``python -m bai_example.sample DIR`` writes a small pair of scenes to try it with.

How the data flows::

    arguments                     the command line    -> what is asked for
    inputs (stac, search)         that                -> scenes: which files, which scale and offset
    load (grid)                   scenes              -> `Pair`: all rasters on one grid
    blocks, block                 a pair              -> blocks, each computed on a worker as one
      (read, mask, bai, tiles)                           task, from the files to compressed tiles
    output.write (cog, item, …)   blocks              -> the files, all of them or none

Importing the package imports nothing else.
"""
