// The page, part by part; parts without data are left out.

function buildPage() {
  const sections = [];
  const later = [];
  const section = (id, title, ...content) => {
    if (!content.flat().filter(Boolean).length) return;
    sections.push([id, title]);
    document.getElementById('main').append(h('section', { id, 'aria-labelledby': `${id}-title` }, h('h2', { id: `${id}-title`, text: title }), content));
  };

  // The discussion's first part opens the page where more follow; these come last, behind what they speak of.
  const prose = (parts) => h('div', { class: 'prose' }, parts.map((part) => [
    part.title ? h('h3', null, bdi(part.title)) : null,
    list(part.paragraphs).map((words) => h('p', null, bdi(words))),
  ]));
  const [opening, ...discussion] = list(DATA.discussion);
  if (discussion.length) section('summary', clean(opening.title) || 'In short', prose([{ ...opening, title: '' }]));
  else if (opening) discussion.push(opening);
  if (list(DATA.experiments).length) {
    section('experiments', 'Experiments', DATA.experiments.map((experiment) => {
      const curves = curvesOf(experiment);
      if (curves) later.push(curves.draw);
      return h('article', { class: 'experiment' }, h('h3', null, bdi(experiment.title)),
        experiment.caption ? h('p', { class: 'note' }, bdi(experiment.caption)) : null,
        curves?.figure,
        list(experiment.table?.columns).length ? tableOf(experiment.table, `Table: ${clean(experiment.title)}`) : null);
    }));
  }
  if (list(DATA.ngrams).length) section('ngrams', 'N-grams', ngramsSection(DATA.ngrams));
  if (list(DATA.tune_sets).length) section('measures', 'Measures of tunes', measuresSection(DATA.tune_sets));
  if (list(DATA.tunes).length) {
    const tunes = tunesSection(DATA.tunes);
    section('tunes', 'Tunes', tunes.node);
    later.push(tunes.start);
  }
  let neurons = null;
  if (DATA.neurons && list(DATA.neurons.texts).length && DATA.neurons.layers > 0 && DATA.neurons.hidden > 0) {
    neurons = neuronsSection(DATA.neurons);
    section('neurons', 'Neurons', neurons.node);
    later.push(neurons.start);
  }
  if (discussion.length) section('discussion', 'Discussion', prose(discussion));

  const help = keysDialog();
  document.body.append(help);
  document.getElementById('top').append(
    h('div', { class: 'topbar' },
      h('nav', { 'aria-label': 'Sections' }, sections.map(([id, title]) => h('a', { href: `#${id}` }, title))),
      h('div', { class: 'tools' }, h('button', { type: 'button', class: 'quiet', 'aria-haspopup': 'dialog', onclick: () => help.showModal() }, 'Keys'), themeButton())),
    h('div', { class: 'head' }, h('h1', null, bdi(DATA.title)),
      list(DATA.facts).length ? h('ul', { class: 'facts' }, DATA.facts.map((fact) => h('li', null, bdi(fact)))) : null));
  document.getElementById('foot').append(h('p', { class: 'note' }, 'One file, made by songrnn-fast. It asks nothing of the network.'));
  listenToKeys(help, neurons);
  later.forEach((start) => start());
}

buildPage();
