"""The pictures of docs/: a run's report in headless Chromium, its views at two widths in light and dark.

python tests/support/report_pictures.py runs/latest/report.html docs/images --maps "run=0&step=20&group=3&token=4"
"""

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from report_browser import VIEWS, Page, start_browser


def main(
    report: Annotated[Path, typer.Argument(help="A report.html.")],
    folder: Annotated[Path, typer.Argument(help="Where report-VIEW-WIDTH-THEME.png go.")],
    maps: Annotated[str, typer.Option(help="What the token map shows: the address behind #maps?.")] = "",
) -> None:
    """Write one picture for each view, width and theme."""
    with tempfile.TemporaryDirectory() as profile:
        driver = start_browser(Path(profile))
        page = Page(driver, report)
        for view in VIEWS[:-1]:  # not Setup, which is a list of options
            for width in (1280, 390):
                for theme in ("light", "dark"):
                    address = f"#{view}?{maps}" if view == "maps" and maps else f"#{view}"
                    page.open(address, width=width, theme=theme)
                    if page.all(f"#view-{view} .plot"):
                        page.wait("return document.querySelector('.view:not([hidden]) .plot .main-svg')")
                    driver.save_screenshot(str(folder / f"report-{view}-{width}-{theme}.png"))
        driver.quit()


if __name__ == "__main__":
    typer.run(main)
