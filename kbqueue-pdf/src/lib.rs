//! The PDF extractor of kbqueue, on pdfium.
