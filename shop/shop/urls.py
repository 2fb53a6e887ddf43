"""All addresses of the shop."""

from django.conf import settings
from django.contrib import admin
from django.contrib.staticfiles.views import serve as serve_static
from django.urls import include, path
from django.views.static import serve as serve_media

from shop import diagnostics

urlpatterns = [
    path("", include("catalogue.urls")),
    path("", include("orders.urls")),
    path("files/", include("files.urls")),
    path("admin/", admin.site.urls),
    path("healthz", diagnostics.healthz, name="healthz"),
    # So that the shop is whole without nginx; conf/nginx.conf answers these before they get here.
    path("static/<path:path>", serve_static, {"insecure": True}),
    path("media/<path:path>", serve_media, {"document_root": settings.MEDIA_ROOT}),
]

if settings.DIAGNOSTICS:
    urlpatterns += [
        path("diagnostics/request", diagnostics.show_request),
        path("diagnostics/wait", diagnostics.wait),
        path("diagnostics/fail", diagnostics.fail),
    ]
