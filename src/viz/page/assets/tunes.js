// Tunes: a list to choose from, and for the chosen one its facts, the player, the roll, the score and the text, in step.

const tunesState = { choose: null, chosen: 0, view: null };

// The text in pieces, so that what sounds can be marked where it is written. Ranges that cross an earlier one are
// marked with it.
function markedText(text, notes) {
  const starts = new Map();
  for (const note of notes) {
    if (Number.isInteger(note.from) && Number.isInteger(note.to) && note.from < note.to && note.to <= text.length) {
      starts.set(note.from, Math.max(note.to, starts.get(note.from) ?? 0));
    }
  }
  const spans = new Map();
  const pieces = [];
  let at = 0;
  let last = null;
  for (const from of [...starts.keys()].sort((a, b) => a - b)) {
    if (from < at) {
      spans.set(from, last);
      continue;
    }
    pieces.push(text.slice(at, from));
    last = h('span', { class: 'played' }, text.slice(from, starts.get(from)));
    spans.set(from, last);
    pieces.push(last);
    at = starts.get(from);
  }
  pieces.push(text.slice(at));
  let lit = new Set();
  return {
    node: h('pre', { class: 'abc', dir: 'ltr', tabindex: 0, role: 'region', 'aria-label': 'The tune as ABC' }, pieces),
    show(sounding) {
      const now = new Set(sounding.map((note) => spans.get(note.from)).filter(Boolean));
      for (const span of lit) if (!now.has(span)) span.classList.remove('on');
      for (const span of now) if (!lit.has(span)) span.classList.add('on');
      lit = now;
    },
  };
}

// Notes that sound at a time. `sorted` by onset; `longest` of them in seconds.
function soundingAt(sorted, longest, at) {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle].at <= at + 1e-6) low = middle + 1;
    else high = middle;
  }
  const out = [];
  for (let i = low - 1; i >= 0 && sorted[i].at > at - longest - 1e-6; i--) {
    if (sorted[i].at + sorted[i].length > at + 1e-6) out.push(sorted[i]);
  }
  return out;
}

function controls() {
  const play = h('button', { type: 'button', class: 'primary', 'aria-keyshortcuts': 'Space', onclick: () => player.toggle() });
  const stop = h('button', { type: 'button', onclick: () => player.stop() }, 'Stop');
  const time = h('output', { class: 'time' });
  const slider = (label, low, high, step, value, change) => {
    const shown = h('output', null);
    const input = h('input', { type: 'range', min: low, max: high, step, value, 'aria-label': label, oninput: () => { change(Number(input.value)); say(); } });
    const say = () => {
      shown.textContent = `${input.value} %`;
      input.setAttribute('aria-valuetext', `${input.value} percent`);
    };
    say();
    return { node: h('label', { class: 'slider' }, h('span', null, label), input, shown), set(v) { input.value = v; say(); change(Number(input.value)); } };
  };
  const tempo = slider('Tempo', 25, 400, 5, Math.round(player.rate * 100), (v) => { player.rate = v / 100; });
  const loudness = slider('Loudness', 0, 100, 1, Math.round(player.loudness * 100), (v) => { player.loudness = v / 100; });
  const chords = check('Chords', player.chords, (on) => { player.chords = on; });
  const state = () => {
    replace(play, document.createTextNode(player.playing ? 'Pause' : 'Play'));
    play.setAttribute('aria-label', player.playing ? 'Pause' : 'Play');
  };
  player.onchange(state);
  state();
  const node = Player.available
    ? h('div', { class: 'player', role: 'group', 'aria-label': 'Player' }, h('div', { class: 'buttons' }, play, stop, time), tempo.node, loudness.node, chords)
    : h('p', { class: 'note', text: 'This browser has no Web Audio: the tunes can be read here, not heard.' });
  let said = '';
  return { node, tempo, chords, time(at) {
    const words = `${clock(at)} / ${clock(player.seconds)}`;
    if (words !== said) time.textContent = said = words;
  } };
}

function tunesSection(tunes) {
  const bar = controls();
  const panel = h('div', { class: 'tune', role: 'tabpanel', id: 'tune-panel', tabindex: -1 });
  let view = null;
  const heard = () => {
    if (!view) return;
    const at = player.position;
    const idle = !player.playing && at === 0;
    const melody = idle ? [] : soundingAt(view.melody, view.longest, at);
    const chords = idle || !player.chords ? [] : soundingAt(view.chords, view.longestChord, at);
    view.roll.show(at, [...melody, ...chords], player.playing);
    view.text.show(melody);
    view.score.show(melody.filter((n) => Number.isInteger(n.from)));
    bar.time(at);
  };
  let frame = 0;
  const follow = () => {
    heard();
    frame = player.playing ? requestAnimationFrame(follow) : 0;
  };
  player.onchange(() => {
    if (player.playing && !frame) frame = requestAnimationFrame(follow);
    else if (!player.playing) heard();
  });

  function open(index) {
    tunesState.chosen = index;
    const tune = tunes[index];
    player.load(tune);
    const byOnset = (notes) => list(notes).filter((n) => isNumber(n.at) && isNumber(n.length)).sort((a, b) => a.at - b.at);
    const melody = byOnset(tune.notes);
    const chords = byOnset(tune.chords);
    const longest = (notes) => notes.reduce((most, n) => Math.max(most, n.length), 0);
    const roll = pianoRoll(tune, (at) => player.seek(at));
    const score = scoreOf(tune);
    const text = markedText(clean(tune.abc), melody);
    view = { tune, melody, chords, longest: longest(melody), longestChord: longest(chords), roll, score, text };
    bar.chords.hidden = chords.length === 0;
    const verdict = list(tune.verdict);
    replace(panel,
      h('h3', null, bdi(tune.title || 'Untitled'), ' ', h('span', { class: 'origin' }, bdi(tune.origin))),
      verdict.length ? h('dl', { class: 'verdict' }, verdict.map(([name, value]) => h('div', null, h('dt', null, bdi(name)), h('dd', null, bdi(value))))) : null,
      melody.length ? bar.node : null, roll.node,
      melody.length ? score.node : null,
      text.node,
      tune.written ? h('details', null, h('summary', { text: 'As the model wrote it' }), h('pre', { class: 'abc', dir: 'ltr' }, tune.written)) : null);
    panel.setAttribute('aria-labelledby', `tune-${index}`);
    roll.draw();
    heard();
  }

  const tabs = tunes.map((tune, i) => h('button', { type: 'button', role: 'tab', id: `tune-${i}`, 'aria-controls': 'tune-panel', tabindex: i ? -1 : 0, 'aria-selected': String(!i), onclick: () => choose(i) },
    h('span', { class: 'name' }, bdi(tune.title || 'Untitled')), h('span', { class: 'origin' }, bdi(tune.origin))));
  function choose(index, focus = false) {
    const at = clamp(index, 0, tunes.length - 1);
    tabs.forEach((tab, i) => {
      tab.setAttribute('aria-selected', String(i === at));
      tab.tabIndex = i === at ? 0 : -1;
    });
    if (focus) tabs[at].focus();
    if (at !== tunesState.chosen || !view) open(at);
  }
  const tablist = h('div', { class: 'list', role: 'tablist', 'aria-label': 'Tunes', 'aria-orientation': 'vertical' }, tabs);
  tablist.addEventListener('keydown', (event) => {
    const at = tunesState.chosen;
    const to = { ArrowDown: at + 1, ArrowRight: at + 1, ArrowUp: at - 1, ArrowLeft: at - 1, Home: 0, End: tunes.length - 1 }[event.key];
    if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    choose(to, true);
  });
  tunesState.choose = choose;
  tunesState.controls = bar;
  return { node: h('div', { class: 'tunes' }, tablist, panel), start: () => choose(0) };
}
