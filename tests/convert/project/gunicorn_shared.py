"""Settings that several services share."""

bind = ["127.0.0.1:@PORT@", "127.0.0.1:@SECOND@"]
workers = 1
