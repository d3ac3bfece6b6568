"""CaloGAN and the conditional CaloGAN that followed it.

`ancestor` is the CaloGAN of 2017, `model` the conditional CaloGAN of 2018; both train as
`nonsaturating` says. Their blocks are `streams` (convolutions that paint or read a layer), `seeds`
(how a stream begins), `blur`, `sparsity` (the soft count of filled cells),
`impact` (where cells lie from the particle's axis) and `attributes` (what the head Xi estimates).
"""
