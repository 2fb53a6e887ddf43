bind = "127.0.0.1:@PORT@"
wsgi_app = "app:app"
workers = 1
raw_env = ["SHOP_A=one two", "SHOP_B=$x", "SCRIPT_NAME=/shop"]
user = "@USER@"
group = "@GROUP@"
initgroups = True
reload = False
