"""Training: one loop for every model, on one device or several, with checkpoints that resume
exactly.

`train` is where a training begins, `folder` says whether it may in a folder, `several` trains
several seeds, `loop` is the loop itself. It uses `dataset` and `storage` (showers on the device),
`gradients` and `optimisers` (one update), `average` (moving averages of the weights), `parallel`
(several processes), `selection` (which generator is kept), `log`, `checkpoint` and `readme` (what
a run writes) and `transfer` (beginning from a trained generator).
"""
