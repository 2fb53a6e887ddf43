"""A Django project that says what it does and when; $BROKEN names what fails in it."""

import os

SECRET_KEY = "for-the-tests-only"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "lazysite.urls"
USE_I18N = True
LANGUAGE_CODE = "de"
LANGUAGES = [("de", "Deutsch"), ("en", "English")]
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
MIDDLEWARE = ["django.middleware.locale.LocaleMiddleware", "lazysite.views.told"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.sqlite3"}}
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
if os.environ.get("BROKEN") == "templates":
    TEMPLATES[0]["OPTIONS"] = {"libraries": {"none": "lazysite.nothing"}}
if os.environ.get("BROKEN") == "no urls":
    del ROOT_URLCONF
