// The player: one oscillator a note, scheduled on the audio clock a little ahead. Time in a tune is seconds at its own
// tempo; the audio clock is tied to it at an anchor, anew whenever the tempo changes or playing starts.

const AHEAD = 2.5; // Seconds of the audio clock; more than the second between timers of a tab in the background.
const LEAD = 0.06; // From pressing play to the first note.
const TAIL = 0.15; // An oscillator goes on this long after its note's end, fading out.
const RELEASE = 0.035; // Time constant of that fading.

class Player {
  #context = null;
  #buses = null;
  #wave = null;
  #anchor = null; // {clock, at}: while playing, tune time `at` sounds at audio time `clock`.
  #at = 0; // Where it stands while it does not play.
  #rate = 1;
  #loudness = 0.7;
  #chords = true;
  #tune = null;
  #events = [];
  #next = 0;
  #voices = new Set();
  #timer = 0;
  #sleep = 0;
  #listeners = [];

  static get available() {
    return typeof AudioContext === 'function';
  }

  get tune() { return this.#tune; }
  get playing() { return this.#anchor !== null; }
  get rate() { return this.#rate; }
  get chords() { return this.#chords; }
  get loudness() { return this.#loudness; }
  get seconds() { return this.#tune ? this.#tune.seconds : 0; }

  onchange(listener) { this.#listeners.push(listener); }
  #changed() { this.#listeners.forEach((listener) => listener()); }

  // Seconds into the tune that are heard now.
  get position() {
    if (!this.#anchor) return this.#at;
    const late = Number.isFinite(this.#context.outputLatency) ? this.#context.outputLatency : 0;
    return clamp(this.#anchor.at + (this.#context.currentTime - late - this.#anchor.clock) * this.#rate, this.#anchor.at, this.seconds);
  }

  load(tune) {
    this.stop();
    this.#tune = tune;
    const usable = (notes) => list(notes).filter((n) => isNumber(n.at) && isNumber(n.length) && n.at >= 0 && n.length > 0);
    this.#events = [
      ...usable(tune.notes).map((note) => ({ note, chord: false })),
      ...usable(tune.chords).map((note) => ({ note, chord: true })),
    ].sort((a, b) => a.note.at - b.note.at);
    this.#changed();
  }

  play() {
    if (!Player.available || !this.#tune || this.playing) return;
    this.#open();
    clearTimeout(this.#sleep);
    this.#context.resume();
    if (this.#at >= this.seconds - 1e-3) this.#at = 0;
    this.#start(this.#at, LEAD);
    this.#timer = setInterval(() => this.#schedule(), 100);
    this.#changed();
  }

  pause() {
    if (!this.playing) return;
    this.#at = this.position;
    this.#halt();
    this.#changed();
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  stop() {
    const moved = this.playing || this.#at !== 0;
    if (this.playing) this.#halt();
    this.#at = 0;
    if (moved) this.#changed();
  }

  seek(at) {
    const to = clamp(at, 0, this.seconds);
    if (this.playing) {
      this.#silence();
      this.#start(to, LEAD);
    } else this.#at = to;
    this.#changed();
  }

  // What sounds goes on sounding; its end and everything after it moves.
  set rate(rate) {
    this.#retime(() => { this.#rate = clamp(rate, 0.25, 4); });
  }

  set chords(on) {
    this.#retime(() => { this.#chords = on; });
  }

  set loudness(loudness) {
    this.#loudness = clamp(loudness, 0, 1);
    if (this.#context) this.#buses.master.gain.setTargetAtTime(this.#loudness ** 2, this.#context.currentTime, 0.02);
    this.#changed();
  }

  #open() {
    if (this.#context) return;
    const context = new AudioContext({ latencyHint: 'playback' });
    const limiter = new DynamicsCompressorNode(context, { threshold: -8, knee: 4, ratio: 20, attack: 0.003, release: 0.2 });
    const master = new GainNode(context, { gain: this.#loudness ** 2 });
    const warm = new BiquadFilterNode(context, { type: 'lowpass', frequency: 5200, Q: 0.4 });
    warm.connect(master).connect(limiter).connect(context.destination);
    // A soft reed: the fundamental, a quiet octave, and a trace of what a triangle has above.
    const partials = new Float32Array([0, 1, 0.24, 0.12, 0.05, 0.03, 0.015]);
    this.#wave = new PeriodicWave(context, { real: new Float32Array(partials.length), imag: partials });
    this.#buses = { master, warm };
    this.#context = context;
    // Timers are slow in a tab that is not seen: schedule as it goes out of sight.
    document.addEventListener('visibilitychange', () => { if (this.playing) this.#schedule(); });
  }

  #halt() {
    clearInterval(this.#timer);
    this.#silence();
    this.#anchor = null;
    this.#sleep = setTimeout(() => { if (!this.playing) this.#context.suspend(); }, 600);
  }

  #silence() {
    for (const voice of this.#voices) this.#end(voice, this.#context.currentTime);
    this.#voices.clear();
  }

  #start(at, lead) {
    this.#anchor = { clock: this.#context.currentTime + lead, at };
    // Notes that are under way at this place are struck again for what is left of them.
    this.#next = 0;
    this.#schedule(at);
  }

  #clockOf(at) {
    return this.#anchor.clock + (at - this.#anchor.at) / this.#rate;
  }

  #retime(change) {
    if (!this.playing) {
      change();
      this.#changed();
      return;
    }
    const now = this.#context.currentTime;
    const at = this.#anchor.at + (now - this.#anchor.clock) * this.#rate;
    change();
    // Before the first note has started the anchor lies ahead: it stays there.
    if (now >= this.#anchor.clock) this.#anchor = { clock: now, at };
    let again = this.#next;
    for (const voice of [...this.#voices]) {
      const { note, chord } = voice.event;
      if (voice.from > now || (chord && !this.#chords)) {
        this.#end(voice, now);
        this.#voices.delete(voice);
        if (voice.from > now) again = Math.min(again, voice.index);
      } else if (voice.ends > now) this.#end(voice, Math.max(now, this.#clockOf(note.at + note.length)));
    }
    // Chords come in with the next one.
    this.#next = this.#events.findIndex((e) => e.note.at >= at - 1e-6);
    if (this.#next < 0) this.#next = this.#events.length;
    this.#next = Math.min(this.#next, again);
    this.#schedule();
    this.#changed();
  }

  #schedule(from = -1) {
    if (!this.playing) return;
    const now = this.#context.currentTime;
    const pending = new Set([...this.#voices].map((voice) => voice.event));
    for (; this.#next < this.#events.length; this.#next++) {
      const event = this.#events[this.#next];
      const { at, length } = event.note;
      const [start, end] = [this.#clockOf(Math.max(at, from)), this.#clockOf(at + length)];
      if (start > now + AHEAD) break;
      // Already under way or over: after a standstill what was missed is not made up for.
      if (pending.has(event) || at + length <= from + 1e-3 || end <= now || (event.chord && !this.#chords)) continue;
      this.#strike(event, this.#next, Math.max(start, now), end);
    }
    if (this.#next >= this.#events.length && now >= this.#clockOf(this.seconds) + 0.1) {
      this.#at = 0;
      this.#halt();
      this.#changed();
    }
  }

  #strike(event, index, from, to) {
    const { pitch } = event.note;
    const context = this.#context;
    const oscillator = context.createOscillator();
    oscillator.setPeriodicWave(this.#wave);
    oscillator.frequency.value = 440 * 2 ** ((pitch - 69) / 12);
    const gain = context.createGain();
    // High notes are softer, as they sound louder.
    const peak = (event.chord ? 0.075 : 0.24) * 2 ** ((60 - pitch) / 48);
    gain.gain.setValueAtTime(0, from);
    gain.gain.linearRampToValueAtTime(peak, from + Math.min(0.012, (to - from) / 3));
    gain.gain.setTargetAtTime(peak * (event.chord ? 0.3 : 0.6), from + 0.02, event.chord ? 0.12 : 0.25);
    oscillator.connect(gain).connect(this.#buses.warm);
    oscillator.start(from);
    const voice = { event, index, oscillator, gain, from, ends: undefined };
    this.#voices.add(voice);
    oscillator.onended = () => {
      this.#voices.delete(voice);
      gain.disconnect();
    };
    this.#end(voice, to);
  }

  // Sets when a voice is let go; may be called again for another time.
  #end(voice, to) {
    const { gain, oscillator, from } = voice;
    const now = this.#context.currentTime;
    if (voice.ends !== undefined) {
      // Let go already: it fades as it does.
      if (voice.ends <= now) return;
      gain.gain.cancelScheduledValues(Math.max(now, Math.min(to, voice.ends) - 1e-4));
    }
    voice.ends = to;
    gain.gain.setTargetAtTime(0, to, RELEASE);
    // An oscillator that has not begun never sounds.
    oscillator.stop(to <= from ? 0 : to + TAIL);
  }
}

const player = new Player();
