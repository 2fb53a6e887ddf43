"""Forms for orders and feedback."""

from django import forms

from orders.models import Feedback


class OrderForm(forms.Form):
    """How many, and who pays."""

    quantity = forms.IntegerField(min_value=1, max_value=99, initial=1)
    email = forms.EmailField(label="E-mail")


class FeedbackForm(forms.ModelForm):
    """A message to the shop."""

    class Meta:
        model = Feedback
        fields = ["name", "email", "message"]
        widgets = {"message": forms.Textarea(attrs={"rows": 6})}
