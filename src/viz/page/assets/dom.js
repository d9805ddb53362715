// Making elements. Texts only ever become text nodes and attribute values; nothing here or elsewhere parses HTML.

const SVG = 'http://www.w3.org/2000/svg';

// Control characters and those that turn the direction of writing, each shown as one U+FFFD: offsets stay as they are.
const UNSHOWN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const clean = (text) => String(text ?? '').replace(UNSHOWN, '\ufffd');

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'text') node.append(clean(value));
    else node.setAttribute(name, value === true ? '' : clean(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    node.append(child instanceof Node ? child : clean(child));
  }
  return node;
}

// h('p', {class: 'note', onclick: f}, 'text', node, [more])
let fields = 0;
function h(tag, attributes, ...children) {
  const node = fill(document.createElement(tag), attributes, children);
  // Browsers report controls without a name as mistakes of forms.
  if ((tag === 'input' || tag === 'select') && !node.name) node.name = `field-${fields++}`;
  return node;
}
const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

// A text that may be written in any direction, apart from what stands around it.
const bdi = (text) => h('bdi', null, text);

const replace = (node, ...children) => node.replaceChildren(...children.flat(Infinity).filter(Boolean));

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

const isNumber = (value) => typeof value === 'number' && Number.isFinite(value);

// A number with `digits` after the point and a true minus sign; a dash where there is none.
function number(value, digits = 3) {
  return isNumber(value) ? value.toFixed(digits).replace('-', '\u2212') : '\u2013';
}

function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds + 1e-6));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`;
}

// Buttons of which one is pressed, as radio buttons: arrow keys work, a form is not needed.
function choice(label, options, chosen, change) {
  const name = `choice-${choice.count = (choice.count ?? 0) + 1}`;
  return h('fieldset', { class: 'choice' },
    h('legend', { class: 'hidden', text: label }),
    options.map(([value, text]) => h('label', null,
      h('input', { type: 'radio', name, value, checked: value === chosen, onchange: () => change(value) }),
      h('span', null, text))));
}

function check(label, checked, change) {
  const box = h('input', { type: 'checkbox', checked, onchange: () => change(box.checked) });
  return h('label', { class: 'check' }, box, h('span', null, label));
}

// Ticks at round numbers, about `count` of them.
function ticks(low, high, count) {
  const span = high - low;
  if (!(span > 0) || !Number.isFinite(span)) return [low];
  const rough = span / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((f) => f * power).find((f) => f >= rough * 0.999);
  const out = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) out.push(Number((i * step).toPrecision(12)));
  return out;
}

const decimals = (values) => Math.min(4, Math.max(0, ...values.map((v) => (String(v).split('.')[1] ?? '').length)));
