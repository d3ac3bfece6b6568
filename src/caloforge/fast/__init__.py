"""What is there for speed alone.

`packed` makes dense layers faster for generating, `products` the matrix products of training where
`measured` finds that it does; `compiled` makes one graph of the loss and gradients of a player.
"""
