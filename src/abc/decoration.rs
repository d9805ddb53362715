//! The names between `!`s that the standard and its best-known programs define.

/// Whether `name` (without its marks) is a known decoration.
pub(super) fn is_known(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "trill", "trill(", "trill)", "lowermordent", "uppermordent", "mordent", "pralltriller", "roll", "turn",
        "turnx", "invertedturn", "invertedturnx", "arpeggio", ">", "accent", "emphasis", "fermata",
        "invertedfermata", "tenuto", "0", "1", "2", "3", "4", "5", "+", "plus", "snap", "slide", "wedge",
        "upbow", "downbow", "open", "thumb", "breath", "pppp", "ppp", "pp", "p", "mp", "mf", "f", "ff", "fff",
        "ffff", "sfz", "sf", "sffz", "fp", "crescendo(", "<(", "crescendo)", "<)", "diminuendo(", ">(",
        "diminuendo)", ">)", "segno", "coda", "D.S.", "D.C.", "dacoda", "dacapo", "fine", "D.C.alcoda",
        "D.C.alfine", "D.S.alcoda", "D.S.alfine", "shortphrase", "mediumphrase", "longphrase", "staccato",
        "cresc", "cresc.", "dim", "dim.", "beamon", "ped", "ped-up", "/", "//", "///", "-(", "-)", "~(", "~)",
        "xstem", "trem1", "trem2", "trem3", "trem4", "stemless", "rbstop", "8va(", "8va)", "8vb(", "8vb)",
        "^", "marcato", "umarcato", "style=normal", "style=harmonic", "style=rhythm", "style=x", "editorial",
        "courtesy", "crescendo", "diminuendo", "gmark", "ghostnote", "tenutostaccato", "repeatbar", "repeatbar2",
    ];
    NAMES.contains(&name)
}

/// The most bytes of a decoration's name.
const MAX_NAME: usize = 32;

/// Whether the text between two marks could be a decoration's name at all, so that an old staff break (`|!abc|!`)
/// does not swallow music.
pub(super) fn could_be_name(name: &str) -> bool {
    let music = |b: u8| matches!(b, b' ' | b'\t' | b'|' | b'[' | b']' | b':' | b'"' | b'{' | b'}' | b'`');
    is_known(name) || (!name.is_empty() && name.len() <= MAX_NAME && !name.bytes().any(music))
}
