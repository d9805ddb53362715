//! ABC notation: a tolerant parser of our own, with spans and error codes, and MIDI.
