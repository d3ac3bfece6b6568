"""The ATLAS DNNCaloGAN.

`model` is the system; `watched` holds the observables that its critics may watch.
"""
