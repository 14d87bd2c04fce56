"""The HTML templates of the report and the review page, in workflow/report."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

TEMPLATES = Path(__file__).parents[1] / "report"


def html_template(name: str) -> Template:
    """Return a Jinja template of workflow/report; text put into it is escaped, Markup is not.

    name: of the file, such as "report.html.j2"; jinja2.TemplateNotFound if there is none. The
    template's method render raises jinja2.UndefinedError if a variable is missing.
    """
    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    return environment.get_template(name)
