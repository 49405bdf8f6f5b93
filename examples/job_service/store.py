"""The jobs in the database: the one place that says what is to be done."""

from __future__ import annotations

from datetime import datetime, timezone

from sqlalchemy import JSON, Engine, create_engine, func, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from job_service.models import State


class Base(DeclarativeBase):
    pass


def now() -> datetime:
    return datetime.now(timezone.utc)


class JobRow(Base):
    __tablename__ = "jobs"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    """The order in which they came and are started."""

    id: Mapped[str] = mapped_column(unique=True)
    state: Mapped[State] = mapped_column(default=State.queued, index=True)
    cancel: Mapped[bool] = mapped_column(default=False)
    created: Mapped[datetime] = mapped_column(default=now)
    started: Mapped[datetime | None] = mapped_column(default=None)
    ended: Mapped[datetime | None] = mapped_column(default=None)
    exit_status: Mapped[int | None] = mapped_column(default=None)
    detail: Mapped[str | None] = mapped_column(default=None)
    request: Mapped[dict] = mapped_column(JSON)


class Store:
    """Each method is one transaction."""

    def __init__(self, url: str) -> None:
        # A second writer waits for the first one, instead of failing.
        arguments = {"timeout": 30} if url.startswith("sqlite") else {}
        self.engine: Engine = create_engine(url, connect_args=arguments, pool_pre_ping=True)
        Base.metadata.create_all(self.engine)

    def _session(self) -> Session:
        return Session(self.engine, expire_on_commit=False)

    def add(self, job_id: str, request: dict) -> JobRow:
        with self._session() as session, session.begin():
            row = JobRow(id=job_id, request=request)
            session.add(row)
        return row

    def get(self, job_id: str) -> JobRow | None:
        with self._session() as session:
            return session.scalar(select(JobRow).where(JobRow.id == job_id))

    def latest(self, limit: int, offset: int) -> list[JobRow]:
        with self._session() as session:
            newest = select(JobRow).order_by(JobRow.number.desc()).limit(limit).offset(offset)
            return list(session.scalars(newest))

    def counts(self) -> dict[State, int]:
        with self._session() as session:
            found = session.execute(select(JobRow.state, func.count()).group_by(JobRow.state))
            return {state: number for state, number in found}

    def running(self, to_cancel: bool = False) -> list[JobRow]:
        """Those marked as running; with `to_cancel` only those that somebody cancelled."""
        query = select(JobRow).where(JobRow.state == State.running)
        if to_cancel:
            query = query.where(JobRow.cancel)
        with self._session() as session:
            return list(session.scalars(query))

    def start_next(self) -> JobRow | None:
        """Mark the oldest queued job as running."""
        with self._session() as session, session.begin():
            row = session.scalar(
                select(JobRow).where(JobRow.state == State.queued).order_by(JobRow.number).limit(1)
            )
            # A request may have cancelled it in between.
            if row is None or not self._move(session, row.id, State.running, started=now()):
                return None
        return self.get(row.id)

    def cancel(self, job_id: str) -> JobRow | None:
        """A queued job is cancelled at once, a running one is marked for the runner."""
        with self._session() as session, session.begin():
            at_once = self._move(
                session, job_id, State.cancelled, ended=now(), detail="cancelled while queued"
            )
            if not at_once:
                running = (JobRow.id == job_id, JobRow.state == State.running)
                session.execute(update(JobRow).where(*running).values(cancel=True))
        return self.get(job_id)

    def end(self, job_id: str, state: State, exit_status: int | None, detail: str | None) -> None:
        with self._session() as session, session.begin():
            values = {"state": state, "ended": now(), "exit_status": exit_status, "detail": detail}
            session.execute(update(JobRow).where(JobRow.id == job_id).values(values))

    @staticmethod
    def _move(session: Session, job_id: str, state: State, **values: object) -> bool:
        """From queued to `state`; False where it is not queued any more."""
        queued = (JobRow.id == job_id, JobRow.state == State.queued)
        moved = session.execute(update(JobRow).where(*queued).values(state=state, **values))
        return moved.rowcount == 1
