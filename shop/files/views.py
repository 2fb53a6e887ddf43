"""Files in and out."""

import hashlib

from django.conf import settings
from django.contrib import messages
from django.core.files.uploadedfile import UploadedFile
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from files.forms import UploadForm
from files.models import Upload


def _store(sent: UploadedFile) -> Upload:
    """Stores the file and what we know of it."""
    digest = hashlib.sha256()
    for chunk in sent.chunks():
        digest.update(chunk)
    return Upload.objects.create(
        file=sent, name=sent.name, size=sent.size, sha256=digest.hexdigest()
    )


@require_http_methods(["GET", "HEAD", "POST"])
def uploads(request: HttpRequest) -> HttpResponse:
    """The upload form, and what came in last."""
    form = UploadForm()
    if request.method == "POST":
        form = UploadForm(request.POST, request.FILES)
        if form.is_valid():
            stored = _store(form.cleaned_data["file"])
            messages.success(request, f"Stored {stored.name}, {stored.size} bytes.")
            return redirect("files")
    return render(
        request, "files/uploads.html", {"form": form, "uploads": Upload.objects.all()[:20]}
    )


@require_safe
def file(request: HttpRequest, pk: int) -> FileResponse:
    """An uploaded file, always as an attachment."""
    stored = get_object_or_404(Upload, pk=pk)
    return FileResponse(stored.file.open("rb"), as_attachment=True, filename=stored.name)


@require_safe
def price_list(request: HttpRequest) -> FileResponse:
    """The price list that `populate` wrote."""
    try:
        opened = (settings.VAR_DIR / "price-list.txt").open("rb")
    except FileNotFoundError:
        raise Http404("there is no price list: run populate") from None
    return FileResponse(opened, as_attachment=True)
