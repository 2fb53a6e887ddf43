"""Flask-SocketIO in its threading mode."""

from flask import Flask
from flask_socketio import SocketIO, emit

app = Flask(__name__)
io = SocketIO(app, async_mode="threading")


@io.on("shout")
def shout(text: str) -> None:
    """Answers louder."""
    emit("louder", text.upper())
