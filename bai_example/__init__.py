"""Burned-area intensity from a pair of Sentinel-2 scenes, computed on a claimed Dask cluster.

``python -m bai_example --pre-event ITEM --post-event ITEM`` writes ``bai.tif`` (the map, a
cloud-optimised GeoTIFF), ``bai.png`` (a quicklook) and ``bai.json`` (a STAC item with the
statistics). ``python -m bai_example.sample DIR`` writes a small pair to try it with.

How the data flows, one module per step::

    source, calibrate, stac    STAC item          -> Scene (which file, which scale and offset)
    grid, load                 two Scenes         -> lazy reflectance arrays on one pixel grid
    bai                        reflectance        -> dNBR and severity classes (no I/O)
    blocks                     a lazy array       -> its blocks, computed on the cluster
    write (cog, item, quicklook)  blocks          -> bai.tif, bai.json, bai.png

Importing the package imports nothing else.
"""
