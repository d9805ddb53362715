// Tables: sortable by their heads, with numbers right-aligned; wide ones scroll in their own box.

// The number that a cell begins with: `1.702 ± 0.01` is 1.702, `12 %` is 12, `1,234` is 1234. Not a number: null.
function leading(cell) {
  const text = String(cell).trim().replace(/\u2212/g, '-').replace(/(\d)[,\u202f\u00a0 ](?=\d{3}(\D|$))/g, '$1');
  const found = text.match(/^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?/i);
  return found ? Number(found[0]) : null;
}

const isNumeric = (cells) => {
  const some = cells.filter((cell) => /[^\s\u2013\u2014-]/.test(String(cell)));
  const shape = /^[-+\u2212]?[\d.,\u202f\u00a0 ]+\s*(%|\u00b1.*|\(.*\)|[a-z/]+)?$/i;
  return some.length > 0 && some.every((cell) => shape.test(String(cell).trim()));
};

// In this order numbers come before texts and missing cells last, whichever way the column is turned.
function compareCells(a, b, up) {
  const [x, y] = [leading(a), leading(b)];
  if (x !== null && y !== null && x !== y) return up ? x - y : y - x;
  if ((x === null) !== (y === null)) return x === null ? 1 : -1;
  const order = String(a).localeCompare(String(b), undefined, { numeric: true });
  return up ? order : -order;
}

// table: {columns, rows, note}. `open(row index)` makes rows clickable: their first cell becomes a button.
function tableOf(table, caption, options = {}) {
  const columns = list(table.columns);
  const rows = list(table.rows).map((row, index) => ({ row: list(row), index }));
  const numeric = columns.map((_, at) => isNumeric(rows.map(({ row }) => row[at] ?? '')));
  const body = h('tbody');
  const heads = [];
  let sorted = -1;
  let up = true;
  const nodes = rows.map(({ row, index }) => {
    const cells = columns.map((_, at) => {
      const shown = row[at] ?? '';
      if (at > 0) return h('td', { class: numeric[at] ? 'number' : null }, bdi(shown));
      const inside = options.open
        ? h('button', { type: 'button', class: 'link', onclick: () => options.open(index) }, bdi(shown))
        : bdi(shown);
      return h('th', { scope: 'row', class: numeric[0] ? 'number' : null }, inside);
    });
    return h('tr', options.open ? { 'data-row': index, onclick: (event) => {
      if (!event.target.closest('button')) options.open(index);
    } } : null, cells);
  });
  body.append(...nodes);
  const sort = (at) => {
    up = sorted === at ? !up : true;
    sorted = at;
    const order = rows.map((_, i) => i).sort((a, b) =>
      compareCells(rows[a].row[at] ?? '', rows[b].row[at] ?? '', up) || a - b);
    body.append(...order.map((i) => nodes[i]));
    heads.forEach((head, i) => {
      if (i === at) head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
      else head.removeAttribute('aria-sort');
    });
  };
  columns.forEach((column, at) => heads.push(h('th', { scope: 'col', class: numeric[at] ? 'number' : null },
    options.fixed ? bdi(column) : h('button', { type: 'button', onclick: () => sort(at) }, bdi(column)))));
  const box = h('div', { class: 'scroll', role: 'region', tabindex: 0, 'aria-label': caption },
    h('table', null, h('caption', { class: 'hidden', text: caption }), h('thead', null, h('tr', null, heads)), body));
  return h('div', { class: 'tabled' }, box, table.note ? h('p', { class: 'note' }, bdi(table.note)) : null);
}
