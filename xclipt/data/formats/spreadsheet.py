"""Excel's and LibreOffice's workbooks, through pandas."""

from importlib import import_module
from pathlib import Path

from xclipt.data.formats.reading import Reading
from xclipt.data.formats.table import Rows, TableDataset
from xclipt.errors import XcliptError

READERS = {
    ".xlsx": ("openpyxl", "openpyxl"),
    ".xlsm": ("openpyxl", "openpyxl"),
    ".xls": ("xlrd", "xlrd"),
    ".ods": ("odf", "odfpy"),
}
"""What pandas reads each of them with: the module, and the package that has it."""


def open_workbook(path: Path, reading: Reading) -> TableDataset:
    """Captions of a workbook; raises as :func:`sheet_rows` does, or for a column or value."""
    return TableDataset.of(path, [sheet_rows(path, reading)], reading)


def sheet_rows(path: Path, reading: Reading) -> Rows:
    """The rows of a workbook's only sheet, or of the only one that holds anything.

    Raises:
        XcliptError: pandas or what it reads the file with is not installed, the file is damaged, or
            several sheets hold something.
    """
    reading.refuse(str(path), "encoding")
    module, package = READERS[path.suffix.lower()]
    try:
        import_module(module)
        import pandas
    except ImportError:
        raise XcliptError(
            f"{path}: needs two packages, `pip install {package} pandas`; or save it as CSV"
        ) from None
    try:
        # As text: 012 is no number, and "null" no missing caption.
        sheets = pandas.read_excel(path, sheet_name=None, dtype=str, keep_default_na=False)
    except Exception as error:  # zipfile's, openpyxl's and pandas' own
        reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
        raise XcliptError(f"{path}: not a workbook ({reason})") from error
    filled = {str(name): sheet for name, sheet in sheets.items() if len(sheet)}
    if not filled:
        raise XcliptError(f"{path}: no data rows; add captions")
    if len(filled) > 1:
        raise XcliptError(
            f"{path}: the sheets {', '.join(filled)} all hold something; keep one of them"
        )
    ((name, sheet),) = filled.items()
    names = tuple(str(column).strip() for column in sheet.columns)
    rows = (
        (f"row {number}", dict(zip(names, values, strict=True)))
        for number, values in enumerate(sheet.itertuples(index=False, name=None), 2)
        if any(values)
    )
    return Rows(path, names, rows, said=f"sheet {name}")
