"""What several reports share: words, drawings and the page."""
