workers = 3
threads = 2
