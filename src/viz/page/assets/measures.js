// Tunes measured at every temperature: a small chart a measure with the corpus as a line, and all as a table. N-grams.

const UNITS = { share: '%', nats: 'nats', bits: 'bits', chars: 'characters', seconds: 's', bars: 'bars' };

function measured(value, unit) {
  if (!isNumber(value)) return '\u2013';
  if (unit === 'share') return `${number(value * 100, Math.abs(value) < 0.0995 ? 1 : 0)} %`;
  return number(value, ['chars', 'seconds', 'bars'].includes(unit) ? (Math.abs(value) < 10 ? 1 : 0) : 2);
}

function smallChart(name, unit, points, corpus) {
  const [width, height] = [260, 132];
  const margin = { left: 40, right: 12, top: 10, bottom: 22 };
  const by = unit === 'share' ? 100 : 1;
  const values = points.flatMap((p) => [p.value - (p.error ?? 0), p.value + (p.error ?? 0)]).concat(isNumber(corpus) ? [corpus] : []).map((v) => v * by);
  let [low, high] = [Math.min(...values), Math.max(...values)];
  const room = (high - low) * 0.1 || Math.abs(high) * 0.1 || 1;
  [low, high] = [low - room, high + room];
  if (unit === 'share') [low, high] = [Math.max(low, -2), Math.min(high, 102)];
  const xs = points.map((p) => p.at);
  const [first, last] = [Math.min(...xs), Math.max(...xs)];
  const x = (t) => margin.left + (last > first ? (t - first) / (last - first) : 0.5) * (width - margin.left - margin.right);
  const y = (v) => margin.top + ((high - v) / (high - low)) * (height - margin.top - margin.bottom);
  const marks = ticks(low, high, 3);
  const places = decimals(marks);
  const path = points.map((p, i) => `${i ? 'L' : 'M'}${x(p.at).toFixed(1)} ${y(p.value * by).toFixed(1)}`).join('');
  const words = points.map((p) => `${number(p.at, 1)}: ${measured(p.value, unit)}`).join(', ');
  return h('figure', { class: 'small' },
    h('figcaption', null, bdi(name), h('span', { class: 'unit' }, UNITS[unit] ?? unit)),
    s('svg', { class: 'plot', viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': `${name} by temperature. ${words}. Corpus: ${measured(corpus, unit)}` },
      marks.map((v) => [s('line', { class: 'grid', x1: margin.left, x2: width - margin.right, y1: y(v), y2: y(v) }),
        s('text', { class: 'tick', x: margin.left - 6, y: y(v) + 4, 'text-anchor': 'end' }, v.toFixed(places))]),
      isNumber(corpus) ? s('line', { class: 'reference', x1: margin.left, x2: width - margin.right, y1: y(corpus * by), y2: y(corpus * by) },
        s('title', null, `corpus: ${measured(corpus, unit)}`)) : null,
      s('path', { d: path, class: 'mean', stroke: 'var(--c0)' }),
      points.map((p) => [
        isNumber(p.error) ? s('line', { class: 'error', x1: x(p.at), x2: x(p.at), y1: y((p.value - p.error) * by), y2: y((p.value + p.error) * by) }) : null,
        s('circle', { cx: x(p.at), cy: y(p.value * by), r: 3, fill: 'var(--c0)' },
          s('title', null, `temperature ${number(p.at, 1)}: ${measured(p.value, unit)}${isNumber(p.error) ? ` \u00b1 ${measured(p.error, unit)}` : ''}`)),
      ]),
      [...new Set([first, 1, last])].filter((t) => t >= first && t <= last).map((t) =>
        s('text', { class: 'tick', x: x(t), y: height - 6, 'text-anchor': 'middle' }, String(t)))));
}

function measuresSection(sets) {
  const keys = new Map();
  for (const set of sets) {
    for (const m of list(set.measures)) {
      if (!keys.has(m.key)) keys.set(m.key, { name: m.name, unit: m.unit, corpus: m.corpus, points: [] });
      const entry = keys.get(m.key);
      if (!isNumber(entry.corpus)) entry.corpus = m.corpus;
      if (isNumber(m.value) && isNumber(set.temperature)) entry.points.push({ at: set.temperature, value: m.value, error: isNumber(m.error) ? m.error : null });
    }
  }
  const temperatures = [...new Set(sets.map((set) => set.temperature))].sort((a, b) => a - b);
  const measures = [...keys.values()];
  measures.forEach((m) => m.points.sort((a, b) => a.at - b.at));
  const charts = measures.filter((m) => m.points.length > 1).map((m) => smallChart(m.name, m.unit, m.points, m.corpus));
  const counts = sets.map((set) => `${set.tunes} at ${set.temperature}`).join(', ');
  const table = {
    columns: ['measure', ...temperatures.map((t) => String(t)), 'corpus'],
    rows: measures.map((m) => [UNITS[m.unit] && m.unit !== 'share' ? `${m.name}, ${UNITS[m.unit]}` : m.name,
      ...temperatures.map((t) => {
        const p = m.points.find((point) => point.at === t);
        return p ? measured(p.value, m.unit) + (isNumber(p.error) ? ` \u00b1 ${measured(p.error, m.unit).replace(' %', '')}` : '') : '\u2013';
      }), measured(m.corpus, m.unit)]),
    note: `Columns are temperatures. Tunes measured: ${counts}. \u00b1 is the standard error over tunes.`,
  };
  return [
    h('p', { class: 'note' }, 'By temperature, with standard errors. The dashed line is the corpus\u2019s own value.'),
    charts.length ? h('div', { class: 'smalls' }, charts) : null,
    h('details', { open: charts.length === 0 }, h('summary', { text: 'All measures as a table' }), tableOf(table, 'Measures of tunes by temperature', { fixed: true })),
  ];
}

function ngramsSection(tables) {
  const orders = Math.max(0, ...tables.map((t) => list(t.nats).length));
  const rows = tables.flatMap((t) => [
    [`${t.protocol}, ${t.of}`, ...Array.from({ length: orders }, (_, i) => number(t.nats[i]))],
    ...(list(t.body_nats).length ? [[`${t.protocol}, ${t.of}, after the header`, ...Array.from({ length: orders }, (_, i) => number(t.body_nats[i]))]] : []),
  ]);
  return tableOf({ columns: ['protocol', ...Array.from({ length: orders }, (_, i) => `order ${i + 1}`)], rows,
    note: 'Nats a character; n-gram models with Witten\u2013Bell interpolation.' }, 'What counting alone achieves');
}
