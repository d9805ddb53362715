// Keys of the whole page and their help. What a focused control does with a key stays its own.

const KEYS = [
  ['Space', 'play or pause the tune'],
  ['Esc', 'stop'],
  ['[ and ]', 'slower, faster'],
  ['\u2190 \u2192 in the roll', 'a bar back, a bar on'],
  ['\u2191 \u2193 in the list', 'another tune'],
  ['\u2190 \u2192 at a neuron', 'the neuron before, the next'],
  ['\u2191 \u2193 at a neuron', 'up and down the ranking'],
  ['arrows in its text', 'from character to character (Tab leads there)'],
  ['\u2190 \u2192 in a plot', 'through the epochs'],
  ['?', 'this help'],
];

function keysDialog() {
  const close = h('button', { type: 'button', onclick: () => dialog.close() }, 'Close');
  const dialog = h('dialog', { 'aria-labelledby': 'keys-title' }, h('h2', { id: 'keys-title' }, 'Keys'),
    h('dl', { class: 'keys' }, KEYS.map(([key, what]) => h('div', null, h('dt', null, h('kbd', null, key)), h('dd', null, what)))), close);
  dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close(); });
  return dialog;
}

// Whether a section covers the middle of the window.
function inView(node) {
  if (!node) return false;
  const rect = node.getBoundingClientRect();
  return rect.top < innerHeight * 0.6 && rect.bottom > innerHeight * 0.4;
}

function listenToKeys(help, neurons) {
  document.addEventListener('keydown', (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    const target = event.target instanceof Element ? event.target : document.body;
    const typing = target.closest('input:not([type=range]):not([type=checkbox]):not([type=radio]), textarea, select');
    if (typing) return;
    // Space belongs to buttons, boxes and summaries; a tab that is chosen has no use for it.
    const pressable = target.closest('button:not([role=tab]), summary, input[type=checkbox], input[type=radio], a');
    if (event.key === '?') help.showModal();
    else if (event.key === ' ' && tunesState.choose && !pressable && player.seconds > 0) {
      if (!event.repeat) player.toggle();
    } else if (event.key === 'Escape' && (player.playing || player.position > 0)) player.stop();
    else if ((event.key === '[' || event.key === ']') && tunesState.controls) {
      tunesState.controls.tempo.set(clamp(Math.round(player.rate * 100) + (event.key === ']' ? 10 : -10), 25, 400));
    } else if (neurons && (target === document.body || target.id === 'main') && inView(neurons.node)) {
      neurons.key(event, true);
      return;
    } else return;
    event.preventDefault();
  });
}
