"""The self-attention GAN of the LHCb calorimeter.

`model` is the system; `attention` is the self-attention of its networks, `beam` what momentum and
impact point say about the picture in the cells.
"""
