// Loss curves: a line a seed, their mean in bold; validation solid, training dashed. The legend shows the values where
// the pointer or the arrow keys are, and turns variants on and off.

const COLOURS = 8;
const nearby = (sorted, value) => {
  let best = 0;
  sorted.forEach((v, i) => { if (Math.abs(v - value) < Math.abs(sorted[best] - value)) best = i; });
  return best;
};

// Variants with their seeds, and the mean at the epochs that every seed has.
function variantsOf(curves) {
  const groups = new Map();
  for (const curve of list(curves)) {
    if (!groups.has(curve.name)) groups.set(curve.name, []);
    groups.get(curve.name).push(curve);
  }
  return [...groups].map(([name, seeds], at) => {
    const means = {};
    for (const part of ['train', 'validation']) {
      const sums = new Map();
      for (const seed of seeds) {
        list(seed.epoch).forEach((epoch, i) => {
          const value = list(seed[part])[i];
          if (!isNumber(value) || !isNumber(epoch)) return;
          const sum = sums.get(epoch) ?? [0, 0];
          sums.set(epoch, [sum[0] + value, sum[1] + 1]);
        });
      }
      means[part] = [...sums].filter(([, sum]) => sum[1] === seeds.length)
        .map(([epoch, sum]) => [epoch, sum[0] / sum[1]]).sort((a, b) => a[0] - b[0]);
    }
    return { name, seeds, means, shown: true, colour: `var(--c${at % COLOURS})` };
  });
}

function curvesOf(experiment) {
  const variants = variantsOf(experiment.curves);
  const lines = list(experiment.lines).filter(([, value]) => isNumber(value));
  if (variants.length === 0) return null;
  const parts = { validation: true, train: false };
  const has = (part) => variants.some((v) => v.means[part].length > 0 || v.seeds.some((c) => list(c[part]).some(isNumber)));
  if (!has('validation')) Object.assign(parts, { validation: false, train: true });
  let whole = false;
  let cursor = null;
  let epochs = [];
  let scale = null;
  const plot = s('svg', { class: 'plot', role: 'img', 'aria-label': `Loss curves: ${experiment.title}. Values stand in the legend.` });
  const box = h('div', { class: 'plotbox', tabindex: 0, role: 'group', 'aria-label': 'Loss by epoch; left and right arrow keys move through the epochs' }, plot);
  const legend = h('div', { class: 'legend' });
  const where = h('p', { class: 'where', role: 'status' });
  const mark = s('g', { class: 'cursor' });

  const points = (curve, part) => list(curve.epoch)
    .map((epoch, i) => [epoch, list(curve[part])[i]]).filter(([x, y]) => isNumber(x) && isNumber(y));

  function draw() {
    const width = Math.max(280, box.clientWidth || 760);
    const height = clamp(width * 0.5, 240, 400);
    const margin = { left: 46, right: 14, top: 26, bottom: 34 };
    const visible = variants.filter((v) => v.shown);
    const active = Object.keys(parts).filter((part) => parts[part]);
    const all = visible.flatMap((v) => v.seeds.flatMap((c) => active.flatMap((part) => points(c, part))));
    const lastEpoch = Math.max(1, ...all.map((p) => p[0]));
    // The first epochs fall from far above: unless the whole is asked for, the scale is made for what comes after.
    const late = whole ? all : all.filter((p) => p[0] > lastEpoch * 0.15);
    const values = [...(late.length ? late : all).map((p) => p[1]), ...lines.map((l) => l[1])];
    let [low, high] = values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
    const room = (high - low) * 0.05 || 0.05;
    [low, high] = [low - room, high + room];
    const x = (epoch) => margin.left + (epoch / lastEpoch) * (width - margin.left - margin.right);
    const y = (loss) => margin.top + ((high - loss) / (high - low)) * (height - margin.top - margin.bottom);
    scale = { x, y, width, height, margin, lastEpoch };
    epochs = [...new Set(all.map((p) => p[0]))].sort((a, b) => a - b);
    const path = (ps) => ps.map(([a, b], i) => `${i ? 'L' : 'M'}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join('');
    const clip = `clip-${curvesOf.count = (curvesOf.count ?? 0) + 1}`;
    const yTicks = ticks(low, high, height / 55);
    const places = decimals(yTicks);
    const xTicks = ticks(0, lastEpoch, width / 90);
    const inside = s('g', { 'clip-path': `url(#${clip})` });
    for (const variant of visible) {
      for (const part of active) {
        for (const seed of variant.seeds) {
          inside.append(s('path', { d: path(points(seed, part)), class: `seed ${part}`, stroke: variant.colour }));
        }
      }
    }
    for (const variant of visible) {
      if (variant.seeds.length < 1) continue;
      for (const part of active) inside.append(s('path', { d: path(variant.means[part]), class: `mean ${part}`, stroke: variant.colour }));
    }
    plot.setAttribute('viewBox', `0 0 ${width} ${height}`);
    plot.setAttribute('width', width);
    plot.setAttribute('height', height);
    replace(mark);
    let labelled = [];
    replace(plot,
      s('defs', null, s('clipPath', { id: clip }, s('rect', { x: margin.left, y: margin.top, width: width - margin.left - margin.right, height: height - margin.top - margin.bottom }))),
      yTicks.map((v) => [
        s('line', { class: 'grid', x1: margin.left, x2: width - margin.right, y1: y(v), y2: y(v) }),
        s('text', { class: 'tick', x: margin.left - 8, y: y(v) + 4, 'text-anchor': 'end' }, v.toFixed(places)),
      ]),
      xTicks.map((v) => s('text', { class: 'tick', x: x(v), y: height - margin.bottom + 18, 'text-anchor': 'middle' }, String(v))),
      s('text', { class: 'axis', x: width - margin.right, y: height - 4, 'text-anchor': 'end' }, 'epoch'),
      s('text', { class: 'axis', x: 0, y: 12 }, 'loss, nats a character'),
      lines.map(([, value]) => s('line', { class: 'reference', x1: margin.left, x2: width - margin.right, y1: y(value), y2: y(value) })),
      inside,
      lines.map(([name, value]) => {
        const at = y(value);
        // Labels of lines that are close stand below theirs.
        const below = labelled.some((other) => Math.abs(other - at) < 13 && other <= at + 13);
        labelled = [...labelled, at];
        return s('text', { class: 'reference', x: width - margin.right, y: at + (below ? 12 : -4), 'text-anchor': 'end' }, `${name} ${number(value, 2)}`);
      }),
      mark);
    if (cursor !== null) moveTo(cursor);
    else legends();
  }

  const valueAt = (mean, epoch) => {
    if (!mean.length) return null;
    const at = nearby(mean.map((p) => p[0]), epoch);
    return Math.abs(mean[at][0] - epoch) <= (scale?.lastEpoch ?? 1) * 0.02 + 1e-9 ? mean[at][1] : null;
  };

  const readouts = [];
  function legends() {
    variants.forEach((variant, i) => {
      const part = (name) => (cursor === null
        ? Math.min(...variant.means[name].map((p) => p[1]))
        : valueAt(variant.means[name], cursor));
      const shown = Object.keys(parts).filter((name) => parts[name])
        .map((name) => number(part(name))).join(' / ');
      readouts[i].textContent = shown;
    });
    const names = Object.keys(parts).filter((name) => parts[name]).map((name) => (name === 'train' ? 'training' : name)).join(' / ');
    where.textContent = cursor === null
      ? `Lowest mean over seeds: ${names || 'nothing chosen'}, nats.`
      : `Epoch ${Number(cursor.toFixed(2))}: ${names || 'nothing chosen'}, mean over seeds, nats.`;
  }

  function moveTo(epoch) {
    cursor = epoch;
    if (epoch === null) replace(mark);
    else {
      const { x, y, margin, height } = scale;
      const dots = variants.filter((v) => v.shown).flatMap((v) => Object.keys(parts).filter((p) => parts[p]).map((p) => {
        const value = valueAt(v.means[p], epoch);
        return value === null ? null : s('circle', { cx: x(epoch), cy: y(value), r: 3.5, fill: v.colour });
      }));
      replace(mark, s('line', { x1: x(epoch), x2: x(epoch), y1: margin.top, y2: height - margin.bottom }), dots);
    }
    legends();
  }

  box.addEventListener('pointermove', (event) => {
    const rect = plot.getBoundingClientRect();
    const at = (event.clientX - rect.left) * (scale.width / rect.width);
    const epoch = ((at - scale.margin.left) / (scale.width - scale.margin.left - scale.margin.right)) * scale.lastEpoch;
    if (epochs.length) moveTo(epochs[nearby(epochs, epoch)]);
  });
  box.addEventListener('pointerleave', () => moveTo(null));
  box.addEventListener('blur', () => moveTo(null));
  box.addEventListener('keydown', (event) => {
    if (!epochs.length || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = cursor === null ? -1 : nearby(epochs, cursor);
    const next = { ArrowRight: at + 1, ArrowLeft: at < 0 ? epochs.length - 1 : at - 1, Home: 0, End: epochs.length - 1 }[event.key];
    if (event.key === 'Escape') moveTo(null);
    if (next === undefined) return;
    event.preventDefault();
    moveTo(epochs[clamp(next, 0, epochs.length - 1)]);
  });

  for (const variant of variants) {
    const readout = h('span', { class: 'value' });
    readouts.push(readout);
    const swatch = s('svg', { width: 22, height: 10, 'aria-hidden': 'true' }, s('line', { x1: 1, x2: 21, y1: 5, y2: 5, stroke: variant.colour, 'stroke-width': 3, 'stroke-linecap': 'round' }));
    const button = h('button', { type: 'button', 'aria-pressed': 'true', title: 'Show or hide this line', onclick: () => {
      variant.shown = !variant.shown;
      button.setAttribute('aria-pressed', String(variant.shown));
      draw();
    } }, swatch, h('span', { class: 'name' }, bdi(variant.name)), readout);
    legend.append(button);
  }
  const toggles = h('div', { class: 'toggles' },
    has('validation') ? check('validation (solid)', parts.validation, (on) => { parts.validation = on; draw(); }) : null,
    has('train') ? check('training (dashed)', parts.train, (on) => { parts.train = on; draw(); }) : null,
    check('first epochs too', whole, (on) => { whole = on; draw(); }));
  new ResizeObserver(() => { if (scale && Math.abs(scale.width - box.clientWidth) > 1) draw(); }).observe(box);
  const several = variants.some((v) => v.seeds.length > 1);
  const figure = h('figure', { class: 'curves' }, box, legend, h('div', { class: 'under' }, where, toggles),
    several ? h('figcaption', { class: 'note', text: 'Thin: every seed. Bold: their mean, as far as all of them were trained.' }) : null);
  return { figure, draw };
}
