"""Objects and their relations loaded with SQLAlchemy from a database in a file."""

from __future__ import annotations

import os
import random
import tempfile

from pool import pooled
from sqlalchemy import ForeignKey, String, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload

from throughput import parse_options


class Base(DeclarativeBase):
    """Of all tables."""


class User(Base):
    """Who writes."""

    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    posts: Mapped[list[Post]] = relationship(back_populates="user")


class Post(Base):
    """What is written."""

    __tablename__ = "post"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"), index=True)
    body: Mapped[str]
    user: Mapped[User] = relationship(back_populates="posts")


path = os.path.join(tempfile.mkdtemp(), "posts.db")
engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})
Base.metadata.create_all(engine)
with Session(engine) as session:
    session.add_all([User(name=f"u{n}", posts=[Post(body="x" * 50) for _ in range(5)]) for n in range(300)])
    session.commit()


def read(seed: int) -> None:
    """Ten looks into it."""
    chance = random.Random(seed)
    for _ in range(10):
        first = chance.randrange(1, 280)
        wanted = select(User).where(User.id.between(first, first + 10)).options(selectinload(User.posts))
        with Session(engine) as session:
            users = session.scalars(wanted).all()
            sum(len(post.body) for user in users for post in user.posts)
            session.scalar(select(func.count(Post.id)).where(Post.user_id == first))


if __name__ == "__main__":
    pooled(read, parse_options(__doc__), unit="sessions", of_job=10)
