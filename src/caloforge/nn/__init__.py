"""Network blocks that two systems or more are made of.

`conditions` turns conditions into numbers for a network, `factors` into numbers to multiply with;
`dense` stacks dense layers, and `dense_core` lets a model say that it is nothing else; `local` is
a convolution without shared weights, `spectral` the spectral normalisation of weights, `minibatch`
shows a critic how alike the showers of a batch are, `moments` are the barycentres and widths of
layers, `logistic` the logistic function in a form that is exported well, `normal` the distribution
function of the standard normal and its inverse.
"""
