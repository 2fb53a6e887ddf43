"""A Flask application with SQLAlchemy, whose views spend their time in known ways. SEEN_URL is the URL of its
database, which is made at import."""

import os

from flask import Blueprint, Flask
from sqlalchemy import ForeignKey, create_engine, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

empty = [create_engine("sqlite://")]  # which has no tables
engine = create_engine(os.environ["SEEN_URL"])
empty.append(create_engine("sqlite://"))
application = Flask(__name__)
shelves = Blueprint("shelves", __name__, url_prefix="/shelves")


class Base(DeclarativeBase):
    """Of all models."""


class Author(Base):
    """Who has written books."""

    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Book(Base):
    """One book, of one author."""

    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship()


Base.metadata.create_all(engine)
with Session(engine) as made:
    if not made.get(Book, 1):
        numbers = range(1, 21)
        made.add_all([Author(id=n, name=f"author {n}") for n in numbers])
        made.flush()
        made.add_all([Book(id=n, title=f"book {n}", author_id=n) for n in numbers])
        made.commit()
engine.dispose()

SLOW = """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :most)
          SELECT i FROM n WHERE i % 1000 = 0"""


@application.get("/books/<int:count>")
def books(count: int) -> str:
    """So many books, and the author of each by a query of its own."""
    with Session(engine) as session:
        found = session.scalars(select(Book).limit(count))
        return ", ".join(book.author.name for book in found)


@application.get("/slow")
def slow() -> str:
    """A query that takes long while its rows are fetched, too."""
    with engine.connect() as connection:
        return str(len(connection.execute(text(SLOW), {"most": 300_000}).all()))


@application.post("/authors")
def add_authors() -> str:
    """Many rows by one statement."""
    with engine.begin() as connection:
        rows = [{"id": n, "name": "new"} for n in range(100, 120)]
        connection.execute(text("INSERT INTO author (id, name) VALUES (:id, :name)"), rows)
    return "added"


@shelves.get("/<name>")
def shelf(name: str) -> str:
    """Of a blueprint; no query."""
    return name


application.register_blueprint(shelves)
