//! Gives back what a cut took: the kept neurons take over what the dropped ones contributed.
