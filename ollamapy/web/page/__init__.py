"""The page: a chat in the browser, its static files, and the HTML of answers."""
