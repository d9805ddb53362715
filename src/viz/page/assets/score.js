// The engraved score, where abcjs is: inlined in the page, or loaded on request, one version with one checksum.

let abcjsLoading = null;

function loadAbcjs() {
  abcjsLoading ??= new Promise((resolve, reject) => {
    const { abcjsUrl, abcjsIntegrity } = document.body.dataset;
    const script = h('script', { src: abcjsUrl, integrity: abcjsIntegrity, crossorigin: 'anonymous', referrerpolicy: 'no-referrer' });
    script.onload = () => (window.ABCJS ? resolve() : reject(new Error('abcjs did not start')));
    script.onerror = () => {
      abcjsLoading = null;
      script.remove();
      reject(new Error('abcjs could not be loaded; is there a network? The piano roll shows the same notes.'));
    };
    document.head.append(script);
  });
  return abcjsLoading;
}

// A box that holds the score of a tune once it can be drawn. show(ranges) marks what is written from..to.
function scoreOf(tune) {
  const paper = h('div', { class: 'paper' });
  const box = h('div', { class: 'score' });
  let visual = null;
  let lit = [];
  let shown = '';
  const elements = new Map();

  function engrave() {
    try {
      [visual] = window.ABCJS.renderAbc(paper, clean(tune.abc), { responsive: 'resize', add_classes: true, staffwidth: 820, paddingleft: 0, paddingright: 0, paddingtop: 8, paddingbottom: 8 });
    } catch (why) {
      replace(box, h('p', { class: 'note' }, `abcjs cannot engrave this tune: ${why.message}`));
      return;
    }
    replace(box, paper);
    elements.clear();
  }

  // The drawn parts of what is written at a place of the text.
  function drawn(from) {
    if (!elements.has(from)) {
      const element = visual?.getElementFromChar(from);
      elements.set(from, element?.abselem?.elemset?.filter((node) => node instanceof Element) ?? []);
    }
    return elements.get(from);
  }

  function show(ranges) {
    if (!visual) return;
    const key = ranges.map((r) => r.from).join();
    if (key === shown) return;
    shown = key;
    lit.forEach((node) => node.classList.remove('on'));
    lit = ranges.flatMap((range) => drawn(range.from));
    lit.forEach((node) => node.classList.add('on'));
  }

  if (window.ABCJS) engrave();
  else {
    const status = h('span', { class: 'note', role: 'status' });
    const button = h('button', { type: 'button', onclick: () => {
      button.disabled = true;
      status.textContent = 'Loading\u2026';
      loadAbcjs().then(engrave, (why) => {
        button.disabled = false;
        status.textContent = why.message;
      });
    } }, 'Engrave (loads abcjs from the network)');
    replace(box, h('div', { class: 'ask' }, button, status));
  }
  return { node: box, show };
}
