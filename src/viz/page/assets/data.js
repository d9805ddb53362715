// The report's data: read once; activations are decoded when a text is first looked at.

const DATA = JSON.parse(document.getElementById('data').textContent);

const list = (value) => (Array.isArray(value) ? value : []);

// Base64 of int8 to values in -127..127.
function decode(base64) {
  const bytes = atob(base64);
  const out = new Int8Array(bytes.length);
  for (let i = 0; i < bytes.length; i++) out[i] = (bytes.charCodeAt(i) << 24) >> 24;
  return out;
}

const decoded = new Map();

// The activations of a text, [kinds][layers][T][H], decoded at the first call.
function activations(text) {
  if (!decoded.has(text)) decoded.set(text, decode(text.values));
  return decoded.get(text);
}
