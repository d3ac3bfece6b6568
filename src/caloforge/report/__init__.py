"""Drawing of judged showers: plots that take results and Axes, and the self-contained report page."""
