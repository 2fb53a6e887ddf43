"""The upload form."""

from django import forms


class UploadForm(forms.Form):
    """One file."""

    file = forms.FileField(max_length=200)
