// The neuron browser: one neuron over one text, coloured from -1 to 1. Layers and units are counted from 1 for people.
// Flipping restyles the text's spans and makes no new ones; activations are decoded when a text is first opened.

// Background of an activation, as -127..127 + 127. The three colours follow the theme by themselves.
const SHADES = Array.from({ length: 256 }, (_, i) => {
  const value = clamp((i - 127) / 127, -1, 1);
  const share = (Math.abs(value) * 100).toFixed(1);
  return `color-mix(in oklab, var(${value < 0 ? '--low' : '--high'}) ${share}%, var(--middle))`;
});

const KIND_NAMES = { h: 'h', c: 'tanh(c)' };

// A character as it is named beside the text.
function charName(c) {
  return { '\n': '\u21b5 line end', ' ': '\u2423 space', '\t': '\u21e5 tab', '\r': '\u240d return', '<end>': 'end of tune', '<start>': 'start of tune' }[c] ?? clean(c);
}

function neuronsSection(data) {
  const texts = list(data.texts);
  const kinds = list(data.kinds);
  const ranking = list(data.ranking);
  const units = Math.max(1, data.layers * data.hidden);
  const state = { text: 0, kind: 0, layer: 0, unit: 0, rank: -1, caret: null, hover: null };
  let spans = [];
  let shown = new Int16Array(0);

  // ---- what is chosen
  const textSelect = h('select', { onchange: () => openText(textSelect.selectedIndex) },
    texts.map((t, i) => h('option', { value: i }, `${clean(t.title) || 'Untitled'} (${clean(t.origin)})`)));
  const layerSelect = h('select', { onchange: () => open({ layer: layerSelect.selectedIndex, rank: -1 }) },
    Array.from({ length: data.layers }, (_, i) => h('option', { value: i }, String(i + 1))));
  const unitInput = h('input', { type: 'number', min: 1, max: data.hidden, step: 1, inputmode: 'numeric', onchange: () => open({ unit: clamp(Math.round(Number(unitInput.value)) || 1, 1, data.hidden) - 1, rank: -1 }) });
  const kindChoice = choice('What is shown', kinds.map((kind, i) => [i, KIND_NAMES[kind] ?? kind]), 0, (i) => open({ kind: i, rank: -1 }));
  const place = h('span', { class: 'place' });
  const back = h('button', { type: 'button', 'aria-label': 'Neuron before', onclick: () => flip(-1) }, '\u2190');
  const on = h('button', { type: 'button', 'aria-label': 'Next neuron', onclick: () => flip(1) }, '\u2192');
  const sentence = h('p', { class: 'sentence' });

  // ---- the text
  const page = h('pre', { class: 'cells', dir: 'ltr', tabindex: 0, role: 'group', 'aria-label': 'Text coloured by the neuron; arrow keys move from character to character' });
  const scaleMark = h('span', { class: 'mark', hidden: true });
  const scale = h('div', { class: 'scale', role: 'img', 'aria-label': 'Colour scale from minus one, blue, to one, orange' },
    h('div', { class: 'ramp' }, scaleMark), h('div', { class: 'ends' }, h('span', null, '\u22121'), h('span', null, '0'), h('span', null, '1')));
  const info = h('div', { class: 'info', 'aria-live': 'off' });

  const rowOf = (unit) => ((state.kind * data.layers + state.layer) * list(texts[state.text].chars).length) * data.hidden + unit;

  function valueAt(i) {
    const value = activations(texts[state.text])[rowOf(state.unit) + i * data.hidden];
    return value === undefined ? null : clamp(value / 127, -1, 1);
  }

  function openText(index) {
    state.text = clamp(index, 0, texts.length - 1);
    state.caret = state.hover = null;
    textSelect.selectedIndex = state.text;
    const out = [];
    spans = list(texts[state.text].chars).map((c, i) => {
      const line = c === '\n';
      const span = h('span', line ? { class: 'line' } : null, line ? '\u21b5' : c === '\r' ? '\u240d' : c);
      span.index = i;
      out.push(span);
      if (line) out.push('\n');
      return span;
    });
    shown = new Int16Array(spans.length).fill(999);
    page.replaceChildren(...out);
    paint();
    tell();
  }

  // Only what changes is touched.
  function paint() {
    const values = activations(texts[state.text]);
    const first = rowOf(state.unit);
    for (let i = 0; i < spans.length; i++) {
      const value = values[first + i * data.hidden] ?? 0;
      if (value === shown[i]) continue;
      shown[i] = value;
      spans[i].style.background = SHADES[clamp(value, -127, 127) + 127];
    }
  }

  function open(change) {
    Object.assign(state, change);
    layerSelect.selectedIndex = state.layer;
    unitInput.value = state.unit + 1;
    kindChoice.querySelectorAll('input').forEach((input, i) => { input.checked = i === state.kind; });
    place.textContent = `${state.layer * data.hidden + state.unit + 1} of ${units}`;
    // A neuron that was flipped to may stand in the ranking all the same.
    if (state.rank < 0) state.rank = ranking.findIndex((n) => n.layer === state.layer && n.unit === state.unit && n.kind === kinds[state.kind]);
    const ranked = ranking[state.rank];
    sentence.textContent = ranked ? clean(ranked.sentence) : 'Not in the ranking below.';
    sentence.classList.toggle('faint', !ranked);
    current.forEach((mark) => mark());
    paint();
    tell();
  }

  const current = [];

  function flip(by) {
    const at = (state.layer * data.hidden + state.unit + by + units) % units;
    open({ layer: Math.floor(at / data.hidden), unit: at % data.hidden, rank: -1 });
  }

  function openRank(index) {
    const ranked = ranking[index];
    if (!ranked) return;
    const kind = kinds.indexOf(ranked.kind);
    open({ layer: clamp(ranked.layer, 0, data.layers - 1), unit: clamp(ranked.unit, 0, data.hidden - 1), kind: kind < 0 ? state.kind : kind, rank: index });
  }

  function stepRank(by) {
    if (ranking.length) openRank(state.rank < 0 ? 0 : clamp(state.rank + by, 0, ranking.length - 1));
  }

  // ---- what the model did at one character
  const parts = {
    char: h('span', { class: 'char' }), value: h('span', { class: 'value' }), surprisal: h('span', { class: 'value' }),
    rows: Array.from({ length: 5 }, () => {
      const [name, bar, p] = [h('span', { class: 'name' }), h('span', { class: 'share' }), h('span', { class: 'value' })];
      return { name, bar, p, node: h('li', null, name, h('span', { class: 'track' }, bar), p) };
    }),
  };
  const hint = h('p', { class: 'note hint', text: 'Point at a character or tap it; or tab into the text and use the arrow keys.' });
  const facts = h('div', { class: 'facts', hidden: true },
    h('dl', null, h('div', null, h('dt', null, 'character'), h('dd', null, parts.char)),
      h('div', null, h('dt', null, 'activation'), h('dd', null, parts.value)),
      h('div', null, h('dt', null, 'surprisal'), h('dd', null, parts.surprisal))),
    h('p', { class: 'lead', text: 'What the model expected here' }),
    h('ol', null, parts.rows.map((row) => row.node)));
  info.append(hint, facts);

  let marked = null;
  function tell(aloud = false) {
    const i = state.hover ?? state.caret;
    marked?.classList.remove('at');
    marked = i === null ? null : spans[i];
    marked?.classList.add('at');
    info.setAttribute('aria-live', aloud ? 'polite' : 'off');
    hint.hidden = Boolean(marked);
    facts.hidden = scaleMark.hidden = !marked;
    if (!marked) return;
    const text = texts[state.text];
    const c = text.chars[i];
    const value = valueAt(i);
    parts.char.textContent = charName(c);
    parts.value.textContent = number(value, 2);
    parts.surprisal.textContent = `${number(list(text.surprisal)[i], 2)} nats`;
    scaleMark.style.left = `${((value ?? 0) + 1) * 50}%`;
    const top = list(list(text.top)[i]);
    parts.rows.forEach((row, k) => {
      const [name, p] = list(top[k]);
      row.node.hidden = name === undefined;
      if (name === undefined) return;
      row.name.textContent = charName(name);
      row.node.classList.toggle('came', name === c);
      row.bar.style.width = `${clamp(p ?? 0, 0, 1) * 100}%`;
      row.p.textContent = number(p, 2);
    });
  }

  page.addEventListener('pointerover', (event) => {
    if (event.target.index === undefined || event.pointerType === 'touch') return;
    state.hover = event.target.index;
    tell();
  });
  page.addEventListener('pointerleave', () => {
    state.hover = null;
    tell();
  });
  page.addEventListener('mousedown', (event) => {
    // The arrow keys go on flipping after a click in the text.
    event.preventDefault();
    stage.focus({ preventScroll: true });
  });
  page.addEventListener('click', (event) => {
    if (event.target.index === undefined) return;
    state.caret = state.caret === event.target.index && event.pointerType !== 'mouse' ? null : event.target.index;
    tell();
  });

  // The place in the line above or below, as far to the right.
  function vertical(from, by) {
    const chars = texts[state.text].chars;
    let start = from;
    while (start > 0 && chars[start - 1] !== '\n') start--;
    const column = from - start;
    let to = start;
    if (by < 0) {
      if (start === 0) return from;
      to = start - 1;
      while (to > 0 && chars[to - 1] !== '\n') to--;
    } else {
      while (to < chars.length && chars[to] !== '\n') to++;
      to++;
      if (to >= chars.length) return from;
    }
    let end = to;
    while (end < chars.length - 1 && chars[end] !== '\n') end++;
    return Math.min(to + column, end);
  }

  page.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !spans.length) return;
    const at = state.caret;
    const last = spans.length - 1;
    const to = at === null ? { ArrowRight: 0, ArrowDown: 0, Home: 0, ArrowLeft: last, ArrowUp: last, End: last }[event.key]
      : { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowUp: vertical(at, -1), ArrowDown: vertical(at, 1), Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    state.hover = null;
    state.caret = clamp(to, 0, last);
    tell(true);
    spans[state.caret].scrollIntoView({ block: 'nearest', inline: 'nearest' });
  });

  // ---- put together
  const chosen = list(data.chosen).filter((i) => ranking[i]);
  const cards = chosen.map((i) => {
    const n = ranking[i];
    const card = h('button', { type: 'button', class: 'card', onclick: () => openRank(i) },
      h('strong', null, bdi(n.label_name)),
      h('span', null, `layer ${n.layer + 1}, unit ${n.unit + 1}, ${KIND_NAMES[n.kind] ?? n.kind} \u00b7 ${number(n.held_out, 3)}`));
    current.push(() => card.setAttribute('aria-pressed', String(state.rank === i)));
    return card;
  });
  const stage = h('div', { class: 'stage', tabindex: -1 },
    h('div', { class: 'pick' },
      h('label', null, h('span', null, 'Text'), textSelect),
      h('label', null, h('span', null, 'Layer'), layerSelect),
      h('label', null, h('span', null, 'Neuron'), unitInput),
      kinds.length > 1 ? kindChoice : null,
      h('div', { class: 'buttons' }, back, place, on)),
    sentence,
    h('div', { class: 'look' }, page, h('div', { class: 'beside' }, scale, info)));
  stage.addEventListener('keydown', (event) => neuronKey(event));
  const rankTable = ranking.length ? tableOf({
    columns: ['neuron', 'tells apart', 'held out', 'shuffled', 'what it does'],
    rows: ranking.map((n) => [`${n.layer + 1}:${n.unit + 1} ${KIND_NAMES[n.kind] ?? n.kind}`, n.label_name, number(n.held_out), number(n.control), n.sentence]),
    note: 'Neurons as layer:unit, counted from 1. Held out: area under the ROC curve on tunes that the neuron was not chosen with, 0.5 to 1. Shuffled: the same for the best neuron of shuffled labels, which is what chance reaches.',
  }, 'Neurons by how well they tell labels apart', { open: (i) => {
    openRank(i);
    stage.scrollIntoView({ block: 'nearest', behavior: calm.matches ? 'instant' : 'smooth' });
  } }) : null;
  if (rankTable) {
    rankTable.classList.add('ranking');
    const rows = [...rankTable.querySelectorAll('tbody tr')];
    let marked = null;
    current.push(() => {
      marked?.removeAttribute('aria-current');
      marked = state.rank >= 0 ? rows[state.rank] : null;
      marked?.setAttribute('aria-current', 'true');
    });
  }

  // True where the key was one of the browser's.
  function neuronKey(event, scrolling = false) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || event.target.closest?.('input, select, textarea')) return false;
    const act = { ArrowLeft: () => flip(-1), ArrowRight: () => flip(1), ...(scrolling ? null : { ArrowUp: () => stepRank(-1), ArrowDown: () => stepRank(1) }) }[event.key];
    if (!act) return false;
    event.preventDefault();
    event.stopPropagation();
    act();
    return true;
  }

  return {
    node: h('div', { class: 'neurons' },
      h('p', { class: 'note' }, bdi(data.model), '. Blue: towards \u22121. Orange: towards 1. Left and right arrow keys flip through the neurons, up and down through the ranking.', data.note ? [' ', bdi(data.note)] : null),
      cards.length ? h('div', { class: 'cards', role: 'group', 'aria-label': 'Neurons that the report speaks of' }, cards) : null,
      stage, rankTable ? h('h3', null, 'Ranking') : null, rankTable),
    key: neuronKey,
    start() {
      openText(0);
      if (ranking.length) openRank(chosen[0] ?? 0);
      else open({});
    },
  };
}
