"""`python -m job_service`"""

import uvicorn

from job_service.api import create_app
from job_service.settings import Settings

if __name__ == "__main__":
    settings = Settings()
    uvicorn.run(create_app(settings), host=settings.host, port=settings.port, server_header=False)
