"""The model of a note."""

from django.db import models
from django.db.models.functions import Now


class Note(models.Model):
    """A line of text, and when the database got it."""

    text = models.CharField(max_length=200)
    length = models.PositiveSmallIntegerField(db_default=0)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        """Newest first."""

        ordering = ["-id"]
        indexes = [models.Index(fields=["created_at"], name="notes_created_at")]

    def __str__(self) -> str:
        return self.text
