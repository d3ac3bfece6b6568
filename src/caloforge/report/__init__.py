"""Pages, drawn from the result of judging alone.

`figures` holds one picture a file and lists them in `FIGURES`, `tables` does the same for tables;
`contents` orders them in sections and `page` writes the HTML. `drawn` and `floors` say what
pictures read of a result, `panels` lays them out, and `distributions`, `curves` and `images` draw
on Axes.
`training`, `search` and `traversal` are the pages of trainings, searches and walks along a
condition.
"""
