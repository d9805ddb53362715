// Dark and light: as the system has it until the button says otherwise. Kept for the next time where that is allowed.

const KEPT = 'songrnn-report-theme';
const systemDark = matchMedia('(prefers-color-scheme: dark)');
const calm = matchMedia('(prefers-reduced-motion: reduce)');
const themeListeners = [];

const isDark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === 'dark' : systemDark.matches;
};

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem(KEPT, theme);
  } catch {
    // A browser that keeps nothing for files asks again next time.
  }
  themeListeners.forEach((listener) => listener());
}

function keptTheme() {
  try {
    const kept = localStorage.getItem(KEPT);
    return kept === 'dark' || kept === 'light' ? kept : null;
  } catch {
    return null;
  }
}

function themeButton() {
  const kept = keptTheme();
  if (kept) document.documentElement.dataset.theme = kept;
  const button = h('button', { type: 'button', class: 'quiet', onclick: () => setTheme(isDark() ? 'light' : 'dark') });
  const name = () => replace(button, document.createTextNode(isDark() ? 'Light' : 'Dark'));
  const label = () => button.setAttribute('aria-label', isDark() ? 'Light colours' : 'Dark colours');
  themeListeners.push(name, label);
  systemDark.addEventListener('change', () => themeListeners.forEach((listener) => listener()));
  name();
  label();
  return button;
}
