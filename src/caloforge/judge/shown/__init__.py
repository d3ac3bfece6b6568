"""What a page shows of judged samples, measured once, so that drawing needs no showers.

`content.measure` makes a `Shown` of summaries. Everything in it is small: histograms, means,
average and a few single showers, never a column of all showers.
"""
