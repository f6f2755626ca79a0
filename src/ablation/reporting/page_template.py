"""The page's HTML, a Jinja template: reporting/page.py fills it in."""

STYLE = """
:root { --ink: #1c2024; --soft: #5a6370; --line: #d9dde2; --blue: #0072b2; --vermilion: #b34700; --paper: #fff; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: var(--paper);
  font: 16px/1.55 "Liberation Sans", Arial, Helvetica, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 0 20px 60px; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 28px 0 12px; }
h2 { font-size: 1.3rem; margin: 48px 0 8px; padding-top: 12px; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 24px 0 4px; }
p { max-width: 75ch; margin: 8px 0; }
.alarm { margin: 0; max-width: none; padding: 14px 20px; background: #ffd400; color: #000;
  border-bottom: 6px solid #000; font-size: 1.15rem; font-weight: bold; text-align: center; }
.answer { font-size: 1.1rem; padding: 14px 18px; background: #eef4f9; border-left: 5px solid var(--blue); }
.soft, figcaption { color: var(--soft); font-size: .875rem; }
figure { margin: 16px 0 8px; } .pair figure { margin-top: 0; }
.chart { width: 100%; min-height: 120px; }
.chart svg { max-width: 100%; height: auto; }
#chart-mistakes { height: 270px; } /* 2 rows of images; 3 and 4 on narrow screens */
@media (max-width: 860px) { #chart-mistakes { height: 400px; } }
@media (max-width: 520px) { #chart-mistakes { height: 530px; } }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 8px 32px; }
.tally { display: flex; flex-wrap: wrap; gap: 12px; padding: 0; margin: 16px 0; list-style: none; }
.tally li { flex: 1 1 120px; padding: 10px 14px; border: 1px solid var(--line); border-radius: 6px; }
.tally b { display: block; font-size: 1.6rem; line-height: 1.2; }
.controls { display: flex; flex-wrap: wrap; gap: 8px 20px; margin: 12px 0; }
select { font: inherit; font-size: .95rem; padding: 5px 8px; max-width: 100%; }
label select { display: block; }
.scroll, .dt-layout-table { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: 5px 10px; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { vertical-align: bottom !important; }
table.dataTable > thead > tr > *, table.dataTable > tbody > tr > * { padding: 4px 8px !important; }
table.sortable tr > :first-child { position: sticky; left: 0; z-index: 1; background: var(--paper); }
.number { text-align: right !important; white-space: nowrap; }
tbody th { font-weight: 600; }
#ablation-table tbody th, #diagnostic-table tbody th { white-space: nowrap; }
#comparison-table tbody th { min-width: 150px; }
#comparison-table { font-size: .8125rem; } #comparison-table td:nth-child(4) { min-width: 95px; }
.measured { white-space: normal; } th .soft { font-weight: normal; white-space: normal; }
table.facts { width: auto; } table.facts th { font-weight: normal; color: var(--soft); white-space: nowrap; }
table.facts td { white-space: pre-line; overflow-wrap: anywhere; } #published-table, #effect-table { width: auto; }
#effect-table .number { white-space: normal; } #effect-table th { min-width: 105px; }
#diagnostic-table thead .number { white-space: normal; min-width: 76px; }
.verdict { display: inline-block; white-space: nowrap; padding: 1px 8px; border-radius: 9px; border: 1px solid #767676;
  color: #444; font-size: .8rem; font-weight: 600; }
.verdict.supported { background: var(--blue); border-color: var(--blue); color: #fff; }
.verdict.contradicted { background: var(--vermilion); border-color: var(--vermilion); color: #fff; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 320px), 1fr)); gap: 14px;
  margin: 12px 0; padding: 0; list-style: none; }
.cards li { border: 1px solid var(--line); border-radius: 6px; padding: 12px 14px; break-inside: avoid; }
.cards p { margin: 6px 0; font-size: .9rem; }
.terms { columns: 340px; column-gap: 32px; margin: 8px 0 16px; } .terms div { break-inside: avoid; margin-bottom: 4px; }
.terms dt, .terms dd { display: inline; margin: 0; } .terms dt { font-weight: 600; }
details { margin: 10px 0; } summary { cursor: pointer; font-weight: 600; }
.dt-container { font-size: .875rem; } .dt-container .dt-search input { font: inherit; padding: 4px 8px; }
@media (max-width: 600px) { main { padding: 0 12px 40px; } body { font-size: 15px; } h1 { font-size: 1.45rem; }
  th, td { padding: 5px 7px; } }
@page { margin: 12mm; }
@media print { main { max-width: none; padding: 0; } #chart-mistakes { height: auto; }
  figure, tr, .cards li { break-inside: avoid; }
  h2, h3, .controls { break-after: avoid; } .scroll, .dt-container div { overflow: visible !important; }
  .dt-search, .dt-column-order { display: none !important; }
  .alarm, .verdict, .answer { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  table, #comparison-table, .verdict, table .soft { font-size: 6.5pt; } #comparison-table tbody th { min-width: 90px; }
  table.dataTable > thead > tr > *, table.dataTable > tbody > tr > * { padding: 1px 3px !important; }
  #ablation-table tbody th, #diagnostic-table tbody th, #diagnostic-table .number { white-space: normal; }
  #diagnostic-table thead .number { min-width: 0; } #diagnostic-table { font-size: 5.5pt; } }
"""

TEMPLATE = """\
{%- macro verdict(answer) -%}
{%- set word = answer.partition(" (")[0] -%}
<span class="verdict {{ word.replace(' ', '-') }}">
{{- {"supported": "✓ ", "contradicted": "✗ ", "undecided": "? "}.get(word, "– ") }}{{ word }}</span>
{%- if answer != word %} <span class="soft">{{ answer[word | length + 1:] }}</span>{% endif %}
{%- endmacro -%}
{%- macro figure(name) %}
<figure id="{{ name }}">
<h3>{{ charts[name].title }}</h3>
<div class="chart" id="chart-{{ name }}"></div>
<script type="application/json" class="spec" data-chart="chart-{{ name }}">{{ charts[name].spec }}</script>
<figcaption>{{ charts[name].caption }}</figcaption>
</figure>
{%- endmacro -%}
{%- macro choice(id, label, options, chosen) %}
<label>{{ label }} <select id="{{ id }}" autocomplete="off">
{%- for value, name in options %}
<option value="{{ value }}"{% if value == chosen %} selected{% endif %}>{{ name }}</option>
{%- endfor %}
</select></label>
{%- endmacro -%}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>Ablation on {{ data }}</title>
<style>{{ table_style }}</style>
<style>{{ style }}</style>
</head>
<body>
{% if not official %}<p class="alarm" role="alert">THIS IS NOT CIFAR-10. The data are {{ label }}: nothing on this page
is comparable with published CIFAR-10 results.</p>{% endif %}
<main>
<h1>Ablation on {{ data }}</h1>
<p class="answer" id="answer">{{ sentences | join(" ") }}</p>
{% if effects %}
<div class="scroll" role="region" tabindex="0" aria-label="Effects of the changes">
<table id="effect-table">
<thead><tr><th>change</th><th class="number">effect on validation accuracy,<br>points [95 %]</th>
<th>verdict</th><th>claim</th><th class="number">n</th></tr></thead>
<tbody>
{%- for row in effects %}
<tr><th scope="row">{{ row.title }}</th><td class="number">{{ row.effect }}</td><td>{{ verdict(row.answer) }}</td>
<td>{{ row.claim }}</td><td class="number">{{ row.n }}</td></tr>
{%- endfor %}
</tbody></table></div>
{% endif %}
<ul class="tally" aria-label="Claims by verdict">
{%- for word, number in tally %}
<li><b>{{ number }}</b>{{ verdict(word) }}</li>
{%- endfor %}
</ul>
<noscript><p><strong>The charts and the sorting of tables need JavaScript, which is off.</strong></p></noscript>

<h2>What was run</h2>
<div class="scroll" role="region" tabindex="0" aria-label="What was run">
<table class="facts"><tbody>
{%- for name, value in facts %}
<tr><th scope="row">{{ name }}</th><td>{{ value }}</td></tr>
{%- endfor %}
</tbody></table></div>

<h2>The ablation</h2>
<p class="soft">Best validation accuracy first; click a heading to sort. {{ ablation_legend }}
Gap: training minus validation accuracy, of the same weights.</p>
<table class="sortable" id="ablation-table" aria-label="The ablation">
<thead><tr><th>variant</th>
{%- for name in ablation[0].numbers %}<th class="number">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{%- for row in ablation %}
<tr><th scope="row" data-order="{{ row.variant }}">{{ row.variant }}
{%- if row.notes %}<br><span class="soft">{{ row.notes }}</span>{% endif %}</th>
{%- for text, value in row.numbers.values() %}<td class="number" data-order="{{ value }}">{{ text }}</td>
{%- endfor %}</tr>
{%- endfor %}
</tbody>
</table>
<h3>Published results</h3>
<p class="soft">On the official CIFAR-10 test set.{% if not official %}
The data of this page are {{ label }}: their accuracies are not comparable with these.{% endif %}</p>
<div class="scroll" role="region" tabindex="0" aria-label="Published results">
<table id="published-table">
<thead><tr><th>network</th><th class="number">test accuracy, %</th><th>source</th></tr></thead>
<tbody>
{%- for network, accuracy, source in published %}
<tr><th scope="row">{{ network }}</th><td class="number">{{ accuracy }}</td><td>{{ source }}</td></tr>
{%- endfor %}
</tbody></table></div>
{{ figure("accuracy") }}

<h2>The claims, and what these runs say</h2>
{% if comparisons %}
{% if "forest" in charts %}{{ figure("forest") }}{% endif %}
{% if "forest_figures" in charts %}{{ figure("forest_figures") }}{% endif %}
{% if "forest_loss" in charts %}{{ figure("forest_loss") }}{% endif %}
<h3>Every comparison</h3>
<p class="soft">Below each comparison: the settings in which its variants differ. Measured: the variant against its
baseline, in percent or in the effect's unit. {{ legend }} Detectable: the smallest distance from a bound of the claim
that these seeds would detect with 80 % power at p &lt; 0.05 / number of the family's comparisons. On the test
images: difference in test accuracy of the trained networks themselves, with a 95 % interval over images.</p>
<table class="sortable" id="comparison-table" aria-label="Every comparison">
<thead><tr><th>comparison</th><th class="number">effect [95 %]</th><th>verdict</th><th>claim</th>
<th class="number">measured</th><th class="number">n</th><th class="number">p (Holm)</th>
<th class="number">detectable</th><th class="number">on the test images</th></tr></thead>
<tbody>
{%- for row in comparisons %}
<tr><th scope="row">{{ row.title }}{% if row.settings %}<br><span class="soft">{{ row.settings }}</span>{% endif %}
{%- if row.notes %}<br><span class="soft">{{ row.notes }}</span>{% endif %}</th>
<td class="number" data-order="{{ row.effect_order }}">{{ row.effect }}</td><td>{{ verdict(row.answer) }}</td>
<td>{{ row.claim }}</td><td class="number measured" data-order="{{ row.measured_order }}">{{ row.measured }}</td>
<td class="number">{{ row.n }}</td>
<td class="number" data-order="{{ row.p_order }}">{{ row.p }}</td><td class="number">{{ row.detectable }}</td>
<td class="number measured" data-order="{{ row.images_order }}">{{ row.images }}</td></tr>
{%- endfor %}
</tbody>
</table>
{% else %}<p>No comparison could be made.</p>{% endif %}
{% if not_run %}
<details><summary>Comparisons not run: {{ not_run | length }}</summary><ul>
{%- for title, reason in not_run %}<li>{{ title }}: {{ reason }}</li>{% endfor %}
</ul></details>
{% endif %}
<details><summary>The decision rule</summary>
{%- for paragraph in rule %}<p>{{ paragraph }}</p>{% endfor %}
</details>

<h3>The study's statements</h3>
<p class="soft">{{ statement_rule }}</p>
<ol class="cards" id="statements">
{%- for finding in findings %}
<li><strong>{{ finding.number }}. {{ finding.statement }}</strong>
<p>{{ verdict(finding.answer) }}</p>
{%- for line in finding.evidence %}<p>{{ line }}</p>{% endfor %}
<p class="soft">Tested: {{ finding.tested }}.</p></li>
{%- endfor %}
</ol>

{% if sweeps %}
<h2>Sweeps</h2>
<div class="pair">{% for name in sweeps %}{{ figure(name) }}{% endfor %}</div>
{% endif %}

<h2>Learning curves</h2>
<div class="controls" role="group" aria-label="Learning curves">
{{ choice("choose-first", "Variant", variants, best) }}
{{ choice("choose-second", "Compared with", variants, reference) }}
</div>
{{ figure("curves") }}

<h2>By class</h2>
<div class="controls" role="group" aria-label="By class">{{ choice("choose-variant", "Variant", variants, best) }}</div>
<div class="pair">{{ figure("per_class") }}{{ figure("confusion") }}</div>
{{ figure("mistakes") }}

<h2>Diagnostics</h2>
<p class="soft">Best validation accuracy first; mean over seeds ± standard deviation.</p>
<table class="sortable" id="diagnostic-table" aria-label="Diagnostics">
<thead><tr><th>variant</th>
{%- for measure in measures %}<th class="number">{{ measure.heading }}</th>{% endfor %}</tr></thead>
<tbody>
{%- for name, cells in diagnosed %}
<tr><th scope="row" data-order="{{ name }}">{{ name }}</th>
{%- for cell in cells %}<td class="number" data-order="{{ "" if cell.order is none else cell.order }}">{{ cell.text }}
{%- if cell.note %}<br><span class="soft">{{ cell.note }}</span>{% endif %}</td>{% endfor %}</tr>
{%- endfor %}
</tbody>
</table>
<dl class="terms soft">
{%- for heading, meaning in meanings.items() %}
<div><dt>{{ heading }}</dt> <dd>{{ meaning }}</dd></div>
{%- endfor %}
</dl>
<div class="controls" role="group" aria-label="Weights and gradients by layer">
{{ choice("choose-diagnosed-first", "Variant", variants, best) }}
{{ choice("choose-diagnosed-second", "Compared with", variants, reference) }}
</div>
<div class="pair">{{ figure("weights") }}{{ figure("gradients") }}</div>

<h2>Cost</h2>
<div class="controls">{{ choice("choose-measure", "Accuracy against", costs, "multiply_adds") }}</div>
{{ figure("cost") }}
</main>
<script>{{ vega }}</script>
<script>
for (const spec of document.querySelectorAll("script.spec")) {
  // Errors only: it warns of an empty layer, such as the crosses of a variant of which no seed diverged.
  vegaEmbed("#" + spec.dataset.chart, JSON.parse(spec.textContent), {renderer: "svg", actions: false, logLevel: 1});
}
</script>
<script type="module">
import DataTable from "data:text/javascript;base64,{{ datatables }}";
for (const table of document.querySelectorAll("table.sortable")) {
  new DataTable(table, {paging: false, info: false, order: [], autoWidth: false, language: {search: "Filter "}});
}
</script>
</body>
</html>
"""
