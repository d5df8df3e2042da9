"""The whole error tree.

Every message names the value, the limit and the fix. All of these derive from
``CognitiveMemoryError``, so an edge catches one class; input faults are ``ValueError`` too.

===========================  ====================================================================
error                        raised when
===========================  ====================================================================
``ConfigurationError``       a setting has an invalid value or an unknown name
``InvalidInputError``        blank, oversized, non-UTF-8 or NUL-bearing text, a bad argument
``SourceError``              a path to load does not exist, is unreadable, holds nothing to load, or
                             gives two memories one id
``ModelNotFoundError``       the model is unknown, or absent while offline
``ModelDownloadError``       no source could deliver the model
``ModelIntegrityError``      a model file is missing, truncated or differs from its SHA-256
``ConversionError``          a model cannot be converted, or fails its golden-vector check
``EmbeddingError``           the inference runtime failed, the provider is closed, or what it gave
                             is no unit vector for each text
``StorageError``             the store cannot be opened, read or written
``StoreFullError``           … because no space is left
``StoreReadOnlyError``       … because it cannot be written
``StoreBusyError``           … because another process holds it longer than the timeout
``StoreUnavailableError``    … because its server does not answer, or not in time
``StoreFormatError``         … because the file is no store, is damaged, or has a newer schema
``FingerprintMismatchError`` the store was written by another embedding
``DimensionMismatchError``   vectors of another length than the store or index holds
``MissingExtraError``        an optional package is not installed
===========================  ====================================================================
"""

from __future__ import annotations


class CognitiveMemoryError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigurationError(CognitiveMemoryError):
    """A setting has an invalid value or an unknown name."""


class InvalidInputError(CognitiveMemoryError, ValueError):
    """An argument or a text cannot be accepted."""


class SourceError(CognitiveMemoryError):
    """A source to load is missing, unreadable, empty of anything loadable, or gives an id twice."""


class ModelError(CognitiveMemoryError):
    """Base of the faults of model files."""


class ModelNotFoundError(ModelError):
    """The model is not known, or not on this machine while offline."""


class ModelDownloadError(ModelError):
    """No source could deliver the model."""


class ModelIntegrityError(ModelError):
    """A model file is missing, truncated or altered."""


class ConversionError(ModelError):
    """A model cannot be converted, or its result is not exact."""


class EmbeddingError(CognitiveMemoryError):
    """Text could not be turned into vectors."""


class StorageError(CognitiveMemoryError):
    """The store cannot be opened, read or written."""


class StoreFullError(StorageError):
    """No space is left for the store."""


class StoreReadOnlyError(StorageError):
    """The store cannot be written."""


class StoreBusyError(StorageError):
    """Another process holds the store longer than the timeout."""


class StoreUnavailableError(StorageError):
    """The server of the store does not answer, or not in time; it may when asked again."""


class StoreFormatError(StorageError):
    """The file is not a store, is damaged, or has a newer schema."""


class FingerprintMismatchError(StorageError):
    """The store was written by another embedding."""


class DimensionMismatchError(StorageError, ValueError):
    """Vectors of another length than the store or index holds."""


class MissingExtraError(CognitiveMemoryError, ImportError):
    """An optional package is needed and not installed."""
