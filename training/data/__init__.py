"""Training pairs: crops of photographs, degradations, QR codes drawn on the fly."""
