"""The recurrent network of the LCD calorimeter.

`model` is the system; `recurrent` holds its recurrent layers with dropout, `slices` what the
network says of the next slice: densities of its energy and of its cells.
"""
