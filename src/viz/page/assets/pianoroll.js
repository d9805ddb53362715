// The piano roll: pitch up, time along, bars as lines. Clicking or dragging seeks; it is a slider for the keyboard.

const NOTE_NAMES = ['C', 'C\u266f', 'D', 'E\u266d', 'E', 'F', 'F\u266f', 'G', 'A\u266d', 'A', 'B\u266d', 'B'];
const pitchName = (pitch) => `${NOTE_NAMES[((pitch % 12) + 12) % 12]}${Math.floor(pitch / 12) - 1}`;
const isBlack = (pitch) => [1, 3, 6, 8, 10].includes(pitch % 12);
// More notes than anyone can tell apart are not drawn.
const MOST_DRAWN = 20000;

function pianoRoll(tune, seek) {
  const melody = list(tune.notes).filter((n) => isNumber(n.at) && isNumber(n.length));
  const chords = list(tune.chords).filter((n) => isNumber(n.at) && isNumber(n.length));
  const seconds = Math.max(tune.seconds || 0, 0.001);
  const bars = list(tune.bars).filter(isNumber);
  const pitches = [...melody, ...chords].map((n) => n.pitch);
  const low = pitches.reduce((a, b) => Math.min(a, b), 127) - 1;
  const high = pitches.reduce((a, b) => Math.max(a, b), 0) + 1;
  if (!pitches.length) return { node: h('p', { class: 'note', text: 'No note can be read from this tune.' }), show() {}, draw() {} };
  const row = clamp(300 / (high - low + 1), 4, 9);
  const top = 16;
  const height = (high - low + 1) * row + top;
  const labels = s('svg', { class: 'pitches', width: 38, height, 'aria-hidden': 'true' });
  const roll = s('svg', { class: 'roll', height, 'aria-hidden': 'true' });
  const cursor = s('line', { class: 'now', y1: 0, y2: height });
  const lane = h('div', { class: 'lane' }, roll);
  const node = h('div', { class: 'rollbox', role: 'slider', tabindex: 0, 'aria-label': 'Place in the tune', 'aria-valuemin': 0, 'aria-valuemax': Math.round(seconds) }, labels, lane);
  const y = (pitch) => top + (high - pitch) * row;
  let perSecond = 20;
  let rects = new Map();

  for (let pitch = low; pitch <= high; pitch++) {
    if (pitch % 12 === 0 || pitch % 12 === 7) labels.append(s('text', { x: 32, y: y(pitch) + row / 2 + 3.5, 'text-anchor': 'end' }, pitchName(pitch)));
  }

  function draw() {
    const room = Math.max(200, lane.clientWidth || 700);
    // Notes stay wide enough to be seen; a long tune scrolls.
    perSecond = Math.min(Math.max(room / seconds, 42), 30000 / seconds);
    const width = seconds * perSecond;
    roll.setAttribute('width', width);
    const rows = [];
    for (let pitch = low; pitch <= high; pitch++) {
      if (isBlack(pitch)) rows.push(s('rect', { class: 'black', x: 0, y: y(pitch), width, height: row }));
      if (pitch % 12 === 11) rows.push(s('line', { class: 'octave', x1: 0, x2: width, y1: y(pitch), y2: y(pitch) }));
    }
    // A number where the last one leaves room for it.
    let numbered = -Infinity;
    const roomFor = (x) => x - numbered >= 20 && (numbered = x, true);
    const rectOf = (note, kind) => {
      const rect = s('rect', { class: kind, x: note.at * perSecond + 0.5, y: y(note.pitch) + 0.5, width: Math.max(1.5, note.length * perSecond - 1), height: row - 1, rx: 1.5 });
      rects.set(note, rect);
      return rect;
    };
    rects = new Map();
    replace(roll, rows,
      bars.map((at, i) => [
        s('line', { class: 'bar', x1: at * perSecond, x2: at * perSecond, y1: top - 4, y2: height }),
        roomFor(at * perSecond) ? s('text', { class: 'barnumber', x: at * perSecond + 3, y: 10 }, String(i + 1)) : null,
      ]),
      chords.slice(0, MOST_DRAWN).map((n) => rectOf(n, 'chord')),
      melody.slice(0, MOST_DRAWN).map((n) => rectOf(n, 'note')),
      cursor);
    show(player.tune === tune ? player.position : 0, []);
  }

  let lit = new Set();
  let said = '';
  function show(at, sounding, follow = false) {
    const x = at * perSecond;
    cursor.setAttribute('x1', x);
    cursor.setAttribute('x2', x);
    const now = new Set(sounding);
    for (const note of lit) if (!now.has(note)) rects.get(note)?.classList.remove('on');
    for (const note of now) if (!lit.has(note)) rects.get(note)?.classList.add('on');
    lit = now;
    const bar = bars.filter((b) => b <= at + 1e-6).length;
    const words = `${bars.length ? `bar ${Math.max(1, bar)} of ${bars.length}, ` : ''}${clock(at)} of ${clock(seconds)}`;
    if (words !== said) {
      said = words;
      node.setAttribute('aria-valuenow', Math.round(at));
      node.setAttribute('aria-valuetext', words);
    }
    if (follow && lane.scrollWidth > lane.clientWidth && (x < lane.scrollLeft + 10 || x > lane.scrollLeft + lane.clientWidth * 0.85)) {
      lane.scrollTo({ left: Math.max(0, x - lane.clientWidth * 0.15), behavior: calm.matches ? 'instant' : 'smooth' });
    }
  }

  const seekTo = (event) => seek(clamp((event.clientX - roll.getBoundingClientRect().left) / perSecond, 0, seconds));
  roll.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    // A finger that moves scrolls; only its tap seeks.
    if (event.pointerType === 'mouse') {
      roll.setPointerCapture(event.pointerId);
      seekTo(event);
    }
  });
  roll.addEventListener('pointermove', (event) => { if (roll.hasPointerCapture(event.pointerId) && event.pointerType === 'mouse') seekTo(event); });
  roll.addEventListener('click', (event) => { if (event.pointerType !== 'mouse') seekTo(event); });
  node.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = player.position;
    const step = seconds / 20;
    const before = bars.filter((b) => b < at - 0.25);
    const after = bars.find((b) => b > at + 1e-3);
    const to = {
      ArrowLeft: bars.length ? before[before.length - 1] ?? 0 : at - step,
      ArrowRight: bars.length ? after ?? seconds : at + step,
      PageUp: at - step * 4, PageDown: at + step * 4, Home: 0, End: seconds,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    seek(to);
  });
  new ResizeObserver(() => draw()).observe(lane);
  return { node, show, draw };
}
