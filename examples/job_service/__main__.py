from typing import Any

import uvicorn

from job_service.api import create_app
from job_service.models import Settings


class Server(uvicorn.Server):
    def handle_exit(self, *signal: Any) -> None:
        # At once: uvicorn itself first waits for open answers, such as a log that is followed.
        app.state.jobs.stopping.set()
        super().handle_exit(*signal)


if __name__ == "__main__":
    settings = Settings()
    app = create_app(settings)
    # Seconds for answers under way, such as a download that stalls.
    config = uvicorn.Config(app, settings.host, settings.port, timeout_graceful_shutdown=5)
    Server(config).run()
