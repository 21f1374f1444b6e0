"""Words for a dashboard: queries over the metrics of the appliance, and the few kinds of panels that it uses.

A query names a metric without its prefix; which of the dashboard's variables narrow it follows from its labels."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import bargauge, common, dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode, HeatmapColorScale
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from appliance.metrics.families import FAMILIES
from appliance.metrics.family import PREFIX

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
NARROWED_BY = ("interface", "worker")  # variables that are labels, beside instance, which everything has
LABELS = {family.name + ("_total" if family.kind == "counter" else ""): family.labels for family in FAMILIES}
LABELS |= {f"{family.name}_bucket": family.labels for family in FAMILIES if family.kind == "histogram"}

Query = tuple[str, str]  # expression and legend


# -- queries ---------------------------------------------------------------------------------------------------------


def of(metric: str, *more: str) -> str:
    """The series of a metric that the variables leave. Raises KeyError when there is no such metric."""
    narrowed = [
        f'{label}=~"${label}"' for label in ("instance", *NARROWED_BY) if label in ("instance", *LABELS[metric])
    ]
    return PREFIX + metric + "{" + ", ".join([*narrowed, *more]) + "}"


def recorded(name: str, *more: str) -> str:
    """The same of a recording rule; its first word says what it has beside the instance."""
    label = name.partition(":")[0]
    narrowed = ['instance=~"$instance"', *([f'{label}=~"${label}"'] if label in NARROWED_BY else [])]
    return name + "{" + ", ".join([*narrowed, *more]) + "}"


def rate(metric: str, *more: str) -> str:
    return f"rate({of(metric, *more)}[$__rate_interval])"


def total(metric: str, *more: str) -> str:
    """Return the query of a metric's growth in the time that is shown."""
    return f"sum(increase({of(metric, *more)}[$__range]))"


def by(labels: str, expression: str, how: str = "sum") -> str:
    return f"{how} by ({labels}) ({expression})"


# -- panels ----------------------------------------------------------------------------------------------------------


def lines(
    title: str, about: str, *queries: Query, unit: str = "short", stacked: bool = False, width: int = 8
) -> timeseries.Panel:
    """Values over time."""
    legend = common.VizLegendOptions().display_mode(kinds.LegendDisplayMode.LIST).show_legend(True)
    panel = timeseries.Panel().legend(legend.placement(kinds.LegendPlacement.BOTTOM)).line_width(1).min(0)
    panel = panel.fill_opacity(30 if stacked else 5).show_points(kinds.VisibilityMode.NEVER)
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL).group("A"))
    return _filled(panel, title, about, queries, unit, width, height=8)


def number(
    title: str, about: str, *queries: Query, unit: str = "short", bad_from: float | None = None, width: int = 2
) -> stat.Panel:
    """Values now; red from `bad_from` on."""
    colours = [model.Threshold(None, "green")]
    if bad_from is not None:
        colours.append(model.Threshold(bad_from, "red"))
    steps = dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(colours)
    panel = stat.Panel().thresholds(steps).graph_mode(kinds.BigValueGraphMode.NONE).reduce_options(_last())
    return _filled(panel, title, about, queries, unit, width, height=4, instant=True)


def bars(title: str, about: str, *queries: Query, unit: str = "short", width: int = 12) -> bargauge.Panel:
    """A value each, below one another in the order given."""
    panel = bargauge.Panel().orientation(kinds.VizOrientation.HORIZONTAL).reduce_options(_last()).min(0)
    panel = panel.display_mode(kinds.BarGaugeDisplayMode.BASIC).decimals(0)
    colour = dashboard.FieldColor().mode(model.FieldColorModeId.FIXED)
    panel = panel.color_scheme(colour.fixed_color("green"))
    red = [model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": "red"})]
    orange = [model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": "orange"})]
    panel = panel.override_by_regexp("^lost.*", red).override_by_regexp("^(left out|not ).*", orange)
    return _filled(panel, title, about, queries, unit, width, height=12, instant=True)


def heat(title: str, about: str, *queries: Query, unit: str, width: int = 8) -> heatmap.Panel:
    """Return a heat map of the number of values in each bucket of a histogram, over time."""
    colour = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges")
    colour = colour.scale(HeatmapColorScale.EXPONENTIAL).exponent(0.5).steps(64)
    panel = heatmap.Panel().calculate(False).color(colour).y_axis(heatmap.YAxisConfig().unit(unit))
    return _filled(panel, title, about, queries, unit, width, height=8, form=PromQueryFormat.HEATMAP)


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def _filled(
    panel: Any,
    title: str,
    about: str,
    queries: tuple[Query, ...],
    unit: str,
    width: int,
    height: int,
    instant: bool = False,
    form: PromQueryFormat = PromQueryFormat.TIME_SERIES,
) -> Any:
    for letter, (expression, legend) in zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", queries, strict=False):
        query = prometheus.Dataquery().ref_id(letter).expr(expression).legend_format(legend).format(form)
        panel = panel.with_target((query.instant() if instant else query.range()).datasource(SOURCE))
    return panel.title(title).description(about).unit(unit).span(width).height(height).datasource(SOURCE)
